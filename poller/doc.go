// Package poller drives file descriptors: it accepts, reads, writes and closes
// them on a fixed number of event loops, without a goroutine, a timer or a
// buffer per connection. It knows nothing of WebSocket.
//
// The readiness engine is cloudwego/netpoll, used at the level of its
// FDOperator: a [Conn] is a small struct that its user embeds, registered with
// one operator for its whole life. netpoll's own Connection costs 12 to 60 times
// the memory of that (3 to 15 KB against 0.25 KB per idle connection).
//
// # Who calls what
//
//   - The events of one connection are called by one goroutine at a time: its loop,
//     the caller of Attach, one that delivers what OnData did not take before, or, after the
//     kernel reported a hang-up, one that all connections may share which hung up in the same
//     turn. So none of them may block, and none may panic.
//   - [Events.OnClose] is called once, last, never by the loop. By then the file
//     descriptor is closed.
//   - Every method of Conn may be called by any goroutine, unless it says otherwise.
//
// # Locks
//
// Conn.mu is the only lock of a connection. It is a leaf: nothing is called
// under it but system calls that do not block and netpoll's Control. It is never held while an
// Events method runs, and never while an operator is freed, because freeing waits
// for the operator's callback to return.
//
// # Closing
//
// Anyone may ask for a close, which is shutdown(2) and nothing else. The hang-up
// that the kernel then reports leads to finalize, the only place that frees the
// operator and closes the descriptor. A descriptor number can therefore never be
// reused while anybody may still write to it.
package poller
