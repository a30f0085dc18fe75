// Package push is the product: a server that brings what backends publish to
// every client that is subscribed, in order. It puts the rooms together: the engine
// of package session, the hub with its broker, the protocols, the API for
// backends, the pages and the metrics. Only this package knows all of them.
//
// [New] opens the listeners, [Server.Serve] serves until [Server.Shutdown]. There
// are two kinds of listeners: public ones carry clients, the internal one carries the
// backends' API, health and metrics. They may share an address.
package push
