// Package plain is the protocol for clients without a library: a browser's
// bare WebSocket, websocat, a microcontroller. Every frame is a text message
// with one JSON object.
//
// Up:
//
//	{"type":"login","id":1,"payload":{"token":"…"}}          or "username" and "password"
//	{"type":"subscribe","id":2,"payload":{"channel":"news"}} or "channels":["a","b"]
//	{"type":"unsubscribe","id":3,"payload":{"channel":"news"}}
//	{"type":"publish","id":4,"payload":{"channel":"news","data":{"n":1}}}
//	{"type":"ping","id":5}
//
// Down:
//
//	{"type":"message","channel":"news","offset":1,"data":{"n":1}}
//	{"type":"reply","id":2,"ok":true,"channel":"news"}
//	{"type":"error","id":4,"code":103,"message":"permission denied: …"}
//	{"type":"pong","id":5}
//
// The id is a string or a number of the client's choice, at most 64 bytes as
// written, or absent; the answer repeats it as it was written. Every command
// gets one answer, and a command with several channels is carried out for all
// of them or for none. Unknown fields are ignored. A subscribe is answered
// before the first message of its channels, and after the answer to an
// unsubscribe no message of its channels comes. An error without an id that
// names a channel ends the subscription to it: the client may subscribe again.
//
// The offset rises within a channel. Data that is not JSON (another protocol
// may publish such) comes as "b64data" in standard base64; tags as "tags".
//
// A binary message closes the connection with 1003. A command that cannot be
// understood, or a login that fails, is answered with an error; as many in a row
// as Config.MaxFaults close with 1008.
//
// The token and channels may also come with the opening request; see Params.
//
// # Goroutines and locks
//
// The package has no goroutine and no lock. A Client's On… methods are called
// one at a time, Deliver by any goroutine at any time between; Deliver touches
// immutable fields only.
package plain
