// Package dashboard is the server's side of the dashboard's page: it sends the figures of the server to those who watch, once a second over
// millpond's own WebSocket, finds connections and ends them.
//
// Nobody watching costs nothing: the figures are collected, and channels measured, only while somebody does. Each watcher gets the same frame.
//
// The package knows sessions, and nothing of protocols, channels or keys: Config says how to ask. Lock order: Dashboard.turn before
// Dashboard.mu; the others are taken alone.
package dashboard
