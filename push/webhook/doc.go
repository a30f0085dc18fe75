// Package webhook asks an application's backend over HTTP: who a client is, whether it may stay, subscribe, publish,
// and what the answer to its call is. A [Client] is one endpoint. The shapes are those of Centrifugo's proxy, so that
// its backends work unchanged.
//
// A backend may be slow, gone, or lie. Every question has a timeout; so many are asked at a time and so many wait, no
// more; after failures in a row a circuit breaker spares both sides the rest; an answer is bounded, and what is not as
// it should be is an error that says so in the log, without anything of the client's. Nothing is asked twice that may
// have been heard once.
//
// # Goroutines and locks
//
// A Client has a goroutine for each question that is under way, at most Config.MaxConcurrency, and none when it is idle
// but those of net/http for its connections. Client.mu is a leaf.
package webhook
