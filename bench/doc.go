// Package bench loads a WebSocket server and says what it costs. Its connections are driven by
// the same poller as the server's: one small struct each, without a goroutine or a
// buffer, so that the load generator is not what is measured.
//
// [Idle] measures what an open connection costs in memory and CPU, [Echo] what a message does.
// Both check every byte that comes back. [Channels] and [Broadcast] do the same for subscriptions and what is published to them,
// and [Loss] is the proof that clients that come and go miss nothing: these three speak the Centrifuge protocol. All
// loads are bounded and end by themselves.
package bench
