// Package session is a WebSocket server engine: it listens, upgrades, parses
// frames, keeps connections alive and hands messages to a [Handler], without a
// goroutine, a timer or a buffer per connection. It is shaped like net/http: a
// [Config], a Handler, [Server.Serve] and [Server.Shutdown].
//
// The least there is:
//
//	server, err := session.New(session.Config{Endpoints: []session.Endpoint{{
//		Path: "/echo",
//		Handler: session.Funcs{Message: func(s *session.Session, op session.Opcode, payload []byte) {
//			_ = s.SendMessage(op, payload)
//		}},
//	}}})
//	listener, err := session.Listen(":8000", session.SocketOptions{})
//	err = server.Serve(listener) // until server.Shutdown
//
// # Goroutines
//
// A handler's methods are called one after another for one session, in the order of
// what happened, and in parallel for different sessions. They run on a pool of workers and
// may block; while one does, its session's messages wait in a bounded inbox, and
// when that is full the socket is not read, so that TCP slows the sender. A
// handler that never blocks says so with [Endpoint.Inline] and runs on the event loop.
//
// A goroutine of somebody else's that wants something done in a session's turn, between two of its messages, calls
// [Session.Wake]; OnWake of a [WakeHandler] is then one more call in that order. An inline handler has none.
//
// Every method of [Session] may be called by any goroutine, and none blocks: what
// the socket does not take waits in a bounded outbox, and a [Policy] says what
// happens when that is full.
//
// # Sending to many
//
// A [Frame] is a message encoded once, by [NewFrame]. It never changes, any number of sessions send it at the same
// time, and what waits for a slow one is a reference. With [Compression] it is also compressed once, for all that
// agreed to it. [Session.SendMessage] is for messages of one session, and borrows its payload.
//
// [Session.SendAnswers] is for answers to the client's own messages. They always find room, and take none from what the
// outbox is for, so whoever uses it bounds them by [Session.Waiting] and goes on when [Session.WakeWhenDrained] wakes it.
//
// # Slow clients and dead ones
//
// What a session makes the server keep is bounded: Config has each bound, its default and what it costs. A client that
// sends faster than its handler takes is not read. One that reads slower than it is sent to fills its outbox, and the
// endpoint's SlowPolicy decides; one that reads nothing for [Config.OutboxAge] is ended. Control frames are never
// dropped. One that is gone without a word is found by the heartbeat, and by TCP_USER_TIMEOUT when data is on its way.
// The heartbeat is the WebSocket's ping or, once [Session.BeginHeartbeat] has chosen it, one of [Endpoint.Pings].
// Deadlines run on the monotonic clock, so that setting the time of day does nothing to them.
//
// # Cost
//
// An idle session takes 160 bytes and a slot of 8, the poller's part 120 and two closures of 16: with the
// runtime's share 320 to 450 bytes of process memory (millpond bench idle). A message that arrives whole, its echo, a
// ping's answer and a shared frame allocate nothing. Unfinished messages, inboxes and outboxes come from pools.
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
// in which they leave. Session.mu guards why reading is paused. Under either only the connection's own lock is
// taken. Table and deadline locks are leaves. No handler is called under a lock.
package session
