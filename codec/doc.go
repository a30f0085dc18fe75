// Package codec is RFC 6455 and RFC 7692 as values on byte slices: bytes to frames to messages, and back.
//
// It knows nothing of sockets, goroutines or time. The caller reads bytes from wherever they come and hands them
// to a Decoder, which answers with complete messages, with "nothing yet", or with a Fault that knows its close
// code. In the other direction a Frame is one encoded message that any number of connections send.
//
// # Receiving
//
// A Decoder belongs to one connection and to one goroutine at a time. It is one pointer wide and that pointer is
// nil while nothing is unfinished, so an idle connection holds no memory here. A frame that lies whole in the
// caller's bytes is unmasked where it lies and handed out without a copy. Only what is unfinished at the end of
// the bytes moves into a pooled buffer, which grows with what has arrived; a length that a peer merely declares
// is compared with the limit and never allocated.
//
// Every fault is reported at the first byte that shows it, whatever way the stream was cut into reads: a header
// that is already wrong is not read to its end, text is validated while it arrives (§8.1), and a message that
// will be too big is refused by its declared length.
//
// # Sending
//
// A Frame is immutable and already encoded, so a broadcast encodes once and shares the bytes. AppendFrame and its
// siblings write into a buffer of the caller's instead.
//
// # Cost of hostile input
//
// A compressed message is assembled as it came and inflated once, when it is there whole, up to MaxMessageBytes: what
// a bomb costs is what a message of that length costs. Its text is then validated as a whole.
//
// Bytes are looked at once, so time is linear in what was received. Memory is bounded by Options.MaxMessageBytes
// rounded up to a power of two, and never exceeds twice what has arrived plus a constant. An endless run of empty
// fragments costs the parsing of their headers, about 75 ns for 6 bytes, and no memory at all: an empty fragment
// leaves nothing behind.
package codec
