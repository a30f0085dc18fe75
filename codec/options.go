package codec

import "fmt"

// defaultMaxMessageBytes is what a zero Options.MaxMessageBytes means.
const defaultMaxMessageBytes = 64 << 10

// maxMaxMessageBytes is the largest limit that Validate accepts.
const maxMaxMessageBytes = 1 << (maxClass - 1)

// Options are the rules by which frames are judged. One value is shared by all connections of a server, by
// pointer, and never changed after the first Next. The zero value is a server with default limits.
type Options struct {
	// MaxMessageBytes is the largest message, in bytes of payload: of one frame, and of all fragments of a message
	// together. Larger ones are refused with close code 1009 as soon as their length is declared. Zero means
	// 64 KiB; at most 1 GiB. It costs nothing per connection: only a message that is arriving takes memory, at most
	// this limit rounded up to a power of two.
	MaxMessageBytes int

	// Deflate says that permessage-deflate was agreed on: messages may come compressed. MaxMessageBytes then bounds
	// what they inflate to, and a 64th more than that what they are while they arrive. Inflating takes a pooled 40 KiB
	// while it runs, and the message.
	Deflate bool

	// TakeoverBits says how much of what came before the peer's compressed messages may refer to: it keeps its
	// context ("context takeover") in a window of 1<<TakeoverBits bytes, 8 to 15, which the decoder then has to keep
	// too, for as long as the connection lives. Zero is no context takeover, and costs nothing.
	TakeoverBits int

	// Client makes the decoder that of a client, which expects frames from a server: unmasked ones. False is a
	// server.
	Client bool
}

// Validate reports what is wrong with o, naming the flag, or nil.
func (o *Options) Validate() error {
	if o.MaxMessageBytes < 0 || o.MaxMessageBytes > maxMaxMessageBytes {
		return fmt.Errorf("--max-message-bytes %d: want 0 (for %d) to %d",
			o.MaxMessageBytes, defaultMaxMessageBytes, maxMaxMessageBytes)
	}
	if o.TakeoverBits != 0 && (o.TakeoverBits < MinWindowBits || o.TakeoverBits > MaxWindowBits) {
		return fmt.Errorf("--compression-window-bits %d: want %d to %d", o.TakeoverBits, MinWindowBits, MaxWindowBits)
	}
	return nil
}

// maxMessage returns the limit in force, in bytes. What Validate refuses counts as zero, so that options which
// nobody validated bound memory all the same.
func (o *Options) maxMessage() int {
	if o.MaxMessageBytes <= 0 || o.MaxMessageBytes > maxMaxMessageBytes {
		return defaultMaxMessageBytes
	}
	return o.MaxMessageBytes
}

// maxPayload returns the most payload bytes of one message, in the form in which it arrives.
func (o *Options) maxPayload(deflated bool) int {
	n := o.maxMessage()
	if deflated {
		// What can't be compressed grows, by 5 bytes for each stored block: at most 16 KiB of zlib's.
		n += n/64 + 64
	}
	return n
}
