package codec

import "fmt"

// defaultMaxMessageBytes is what a zero Options.MaxMessageBytes means.
const defaultMaxMessageBytes = 64 << 10

// maxMaxMessageBytes is the largest limit that Validate accepts. It is the largest class of pooled buffers.
const maxMaxMessageBytes = 1 << maxClass

// Options are the rules by which frames are judged. One value is shared by all connections of a server, by
// pointer, and never changed after the first Next. The zero value is a server with default limits.
type Options struct {
	// MaxMessageBytes is the largest message, in bytes of payload: of one frame, and of all fragments of a message
	// together. Larger ones are refused with close code 1009 as soon as their length is declared. Zero means
	// 64 KiB; at most 1 GiB. It costs nothing per connection: only a message that is arriving takes memory, at most
	// this limit rounded up to a power of two.
	MaxMessageBytes int

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
