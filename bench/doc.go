// Package bench loads a WebSocket server and says what it costs. Its connections are driven by
// the same poller as the server's: one small struct each, without a goroutine or a
// buffer, so that the load generator is not what is measured.
//
// [Idle] measures what an open connection costs in memory and CPU, [Echo] what a message does.
// Both check every byte that comes back. All loads are bounded and end by themselves.
package bench
