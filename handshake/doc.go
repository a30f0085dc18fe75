// Package handshake answers WebSocket opening handshakes: it takes the bytes of
// an HTTP request header and appends the bytes of the response. It knows nothing
// of sockets, deadlines or goroutines; whoever reads the bytes owns those.
//
// A reader collects input until [HeaderEnd] finds the blank line, asks
// [IsUpgrade] whether the request is meant for this package or for an ordinary
// HTTP server, and calls [Upgrader.Upgrade] with exactly the header. What follows
// the blank line is the client's first frames and stays with the reader.
//
// # Who checks what
//
// The handshake itself is gobwas/ws's: its Upgrader reads the request line and
// the WebSocket fields and writes the 101. It reads leniently, so three checks
// stand around it:
//
//   - before it, the header must be HTTP to the letter (RFC 9112) and unambiguous:
//     line ends, field names, control characters, doubled fields, an announced body;
//   - beside it, list fields that it reads line by line (Connection, Upgrade) are
//     judged over all their lines; it gets to read the fields that it judges, each
//     list as one line, and not the rest;
//   - after it, the key must decode to 16 bytes, the path must have a [Route], the
//     origin must be allowed, and the route's Accept has its say.
//
// Faults are found in that order, and the first one is the answer. A request that
// is refused gets a complete HTTP response and nothing else; see [Fault].
//
// # Lifetimes
//
// The header is only read, and no part of it is kept: every string handed out is
// a copy or one of the configuration's own. In particular no byte of a request
// reaches a response's header, save through the hash of its key.
//
// An [Upgrader] never changes after New and may be used by any number of
// goroutines at once. The package takes no lock, except inside sync.Pool.
package handshake
