package wire

import (
	"errors"
	"fmt"
	"iter"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Codec is how messages are written in a frame.
type Codec uint8

// The codecs.
const (
	JSON     Codec = iota // text frames
	Protobuf              // binary frames
)

// ErrMalformed is the error of a frame that is not what its codec says. The
// errors that wrap it say what is wrong, and hold nothing of the frame but names
// of fields and numbers.
var ErrMalformed = errors.New("malformed frame")

// ErrNotJSON is the error of a message for a JSON connection, one of whose bytes
// fields is not a JSON value in UTF-8. Another publisher's data can be anything:
// the message can't be sent to this connection, though to others it can.
var ErrNotJSON = errors.New("data is not JSON")

var (
	errEmpty   = errors.New("no message")
	errTooDeep = fmt.Errorf("more than %d messages within each other", maxDepth)
)

// maxDepth bounds how deep messages are nested in a frame; the outermost is one.
// Only filters nest without end: eight kilobytes of brackets would be a tree of
// thousands, which every function that walks it would recurse into.
const maxDepth = 32

// An empty message has no content to own, and is what most frames of a client
// are: it is shared, and costs no allocation.
var (
	emptyCommand = new(Command)
	emptyReply   = new(Reply)
)

// Commands iterates over the commands of one frame, in order. A frame that is no
// longer well formed, or holds no command at all, ends with an error that wraps
// ErrMalformed; the commands before it were good.
//
// A command doesn't point into the frame and is the caller's to keep, but not to
// change: the empty ones, which are pongs, are all the same. A JSON frame must be
// valid UTF-8, which the WebSocket layer has seen to.
func (c Codec) Commands(frame []byte) iter.Seq2[*Command, error] {
	return func(yield func(*Command, error) bool) { each(c, frame, emptyCommand, yield) }
}

// Command reads the first command of a frame, as Commands does, and returns what follows it; nothing if it was the
// last.
func (c Codec) Command(frame []byte) (m *Command, rest []byte, err error) {
	return first(c, frame, emptyCommand)
}

// Replies is Commands for the frames of a server.
func (c Codec) Replies(frame []byte) iter.Seq2[*Reply, error] {
	return func(yield func(*Reply, error) bool) { each(c, frame, emptyReply, yield) }
}

// AppendReply adds r to the frame b, after a line feed if it is JSON and not the
// first. The frame is the caller's, r is only read. With an error, which wraps
// ErrNotJSON, b is returned as it was.
func (c Codec) AppendReply(b []byte, r *Reply) ([]byte, error) {
	if c == Protobuf {
		return appendDelimited(b, r)
	}
	w := newJSONWriter(b)
	w.reply(r)
	return w.finish(b)
}

// AppendCommand is AppendReply for the frames of a client.
func (c Codec) AppendCommand(b []byte, m *Command) ([]byte, error) {
	if c == Protobuf {
		return appendDelimited(b, m)
	}
	w := newJSONWriter(b)
	w.command(m)
	return w.finish(b)
}

// message is a pointer to an M that was generated from client.proto.
type message[M any] interface {
	*M
	ProtoReflect() protoreflect.Message
	UnmarshalVT([]byte) error
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
}

// each yields the messages of the frame. An empty one is yielded as empty.
func each[M any, P message[M]](c Codec, frame []byte, empty P, yield func(P, error) bool) {
	for more := true; more; more = len(frame) > 0 {
		m, rest, err := first(c, frame, empty)
		if !yield(m, err) || err != nil {
			return
		}
		frame = rest
	}
}

// first reads the first message of the frame.
func first[M any, P message[M]](c Codec, frame []byte, empty P) (m P, rest []byte, err error) {
	read := readJSON[M, P]
	if c == Protobuf {
		read = readDelimited[M, P]
	} else {
		frame = trimSpace(frame)
	}
	if len(frame) == 0 {
		return nil, nil, malformed(errEmpty)
	}
	m, n, err := read(frame, empty)
	if err != nil {
		return nil, nil, malformed(err)
	}
	return m, frame[n:], nil
}

// malformed makes err one of this package's.
func malformed(err error) error {
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}
