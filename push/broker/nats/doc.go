// Package nats is the broker of several hosts, and of one that must not lose its history: NATS with JetStream. A [Link] is the
// node's connection, to a server in this process (package embedded) or to those of others.
package nats
