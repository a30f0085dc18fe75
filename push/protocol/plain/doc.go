// Package plain is the protocol for clients without a library: a browser's
// bare WebSocket, websocat, a microcontroller. Every frame is a text message
// with one JSON object.
//
// Up:
//
//	{"type":"login","id":1,"payload":{"token":"…"}}          or "username" and "password"
//	{"type":"login","id":1,"payload":{"data":…,"headers":{…}}}   where the backend says who the client is
//	{"type":"subscribe","id":2,"payload":{"channel":"news"}} or "channels":["a","b"]
//	{"type":"unsubscribe","id":3,"payload":{"channel":"news"}}
//	{"type":"publish","id":4,"payload":{"channel":"news","data":{"n":1}}}
//	{"type":"presence","id":5,"payload":{"channel":"news"}}
//	{"type":"history","id":6,"payload":{"channel":"news","limit":10,"since":{"offset":3,"epoch":"…"},"reverse":false}}
//	{"type":"ping","id":7}
//
// Down:
//
//	{"type":"message","channel":"news","offset":1,"data":{"n":1}}
//	{"type":"reply","id":2,"ok":true,"channel":"news"}
//	{"type":"error","id":4,"code":103,"message":"permission denied: …"}
//	{"type":"join","channel":"news","info":{"user":"42","client":"…"}}, and "leave"
//	{"type":"subscribed","channel":"news"}                   by a backend
//	{"type":"unsubscribed","channel":"news","code":2000,"message":"…"}
//	{"type":"pong","id":7}
//
// The id is a string or a number of the client's choice, at most 64 bytes as
// written, or absent; the answer repeats it as it was written. Every command
// gets one answer, and a command with several channels is carried out for all
// of them or for none. Unknown fields are ignored. A subscribe is answered
// before the first message of its channels, and after the answer to an
// unsubscribe no message of its channels comes. "unsubscribed" ends a subscription; with a code from 2500 the client
// should subscribe again.
//
// # What was missed
//
// The offset rises within a channel. In a channel with history the answer to a subscribe says where the channel stands, with
// the epoch in which its offsets count, {"offset":7,"epoch":"…"}, or for several channels "positions" by channel. A client
// that comes back says with which message it left off, {"channel":"news","since":{"offset":5,"epoch":"…"}}, or for several
// channels "since" by channel. The answer has "recovered" then: true is followed by exactly the messages that were missed,
// before those that come; after false nothing is known of what was missed.
//
// A subscribe with "join_leave":true also asks for "join" and "leave", where the namespace has them.
//
// Where the backend is asked (Config.Backend), the client's next messages wait for its answer. A subscribe, too, may have
// "data" for it, and the answers to both may have "data" of its own, for several channels by channel.
//
// Data that is not JSON (another protocol may publish such) comes as "b64data" in standard base64; tags as "tags".
//
// A login may end with its token. The connection is closed with 1008 a little after that, unless another "login" as the same user
// comes before; its subscriptions stay.
//
// A binary message closes the connection with 1003. A command that cannot be
// understood, or a login that fails, is answered with an error; as many in a row
// as Config.MaxFaults close with 1008.
//
// The token, channels and positions may also come with the opening request; see Params.
//
// # Goroutines and locks
//
// The package has no goroutine and no lock. A Client's On… methods are called
// one at a time, Deliver and Presence by any goroutine at any time between; they touch
// immutable fields, and the identity, which is atomic. What others want of a client is a task that OnWake carries out.
package plain
