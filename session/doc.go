// Package session is a WebSocket server engine: it listens, upgrades, parses
// frames, keeps connections alive and hands messages to a [Handler], without a
// goroutine, a timer or a buffer per connection. It is shaped like net/http: a
// [Config], a Handler, [Server.Serve] and [Server.Shutdown].
//
// # Goroutines
//
// A handler's methods are called one after another for one session, in the order of
// what happened, and in parallel for different sessions. They run on a pool of workers and
// may block; while one does, its session's messages wait in a bounded inbox, and
// when that is full the socket is not read, so that TCP slows the sender. A
// handler that never blocks says so with [Endpoint.Inline] and runs on the event loop.
//
// Every method of [Session] may be called by any goroutine, and none blocks: what
// the socket does not take waits in a bounded outbox, and a [Policy] says what
// happens when that is full.
//
// # The life of a session
//
// A [Session] exists from accept(2) to close(2), in the states handshaking, open,
// closing (our close frame is sent, theirs is awaited) and ending (the last frame
// is on its way; what the peer still sends is discarded). It only moves forward. Its slot
// in the [Table] gives it its id and spreads the heartbeats: no session has a timer.
//
// # Locks
//
// A compression's mu, which exists for sessions with context takeover only, keeps compressed messages in the order
// in which they leave; under it only the connection's own lock is taken. Session.mu guards why reading is paused; under it only the connection's own lock
// is taken. Table and deadline locks are leaves. No handler is called under a lock.
package session
