package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
)

// protocolVersion is that of the messages. It is raised when older nodes could not make sense of them any more.
const protocolVersion = 1

// The kinds of messages.
const (
	kindBeat   = "beat"   // the node is there; the first one of it, and the answer to the first of another
	kindLeave  = "leave"  // it goes
	kindAsk    = "ask"    // a question
	kindAnswer = "answer" // a part of the answer
)

// The subjects.
const (
	subjectBeats = "beats"
	subjectAsks  = "asks"
	subjectNode  = "nodes." // and the uid
)

// The sizes that a message may have.
const (
	maxMessageBytes = 1<<20 - 1024 // of any; NATS takes 1 MiB, if it is not told otherwise
	maxPartBytes    = 192 << 10    // of the body of an answer's part, unless a single entry has more
	maxFigureBytes  = 4 << 10
	maxUIDBytes     = 64
	maxNameBytes    = 255
	maxMethodBytes  = 64
	maxErrorBytes   = 4 << 10
)

// message is what nodes send each other.
type message struct {
	// In all versions.
	Version int    `json:"v"`
	Kind    string `json:"kind"`
	From    string `json:"from"` // the uid of a node

	Beat *beat `json:"beat,omitempty"`

	// Of a question, and its answers.
	ID     uint64          `json:"id,omitempty"` // by the node that asks
	Method string          `json:"method,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`

	// Of a question.
	Millis int64 `json:"ms,omitempty"`    // for the answer
	Most   int   `json:"bytes,omitempty"` // that the answer may have

	// Of an answer.
	Part  int      `json:"part,omitempty"` // counts from 0
	Last  bool     `json:"last,omitempty"`
	Error *Refusal `json:"error,omitempty"` // in the last
}

// beat is what a node tells of itself.
type beat struct {
	Name    string          `json:"name"`
	Version string          `json:"version"`
	Started int64           `json:"started"` // Unix milliseconds
	First   bool            `json:"first,omitempty"`
	Figures json.RawMessage `json:"figures,omitempty"`
}

// Refusal is what another node says instead of an answer.
type Refusal struct {
	Code    uint32 `json:"code"` // the Methods' own; below 100 that of this package
	Message string `json:"message"`
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

// The codes of this package.
const (
	codeUnsupported = 1 // the method is not there
	codeBusy        = 2
	codeTooLarge    = 3
	codeFailed      = 4 // what the other node's log says
)

// Why messages are ignored.
const (
	ignoredSize    = "size"
	ignoredGarbage = "garbage"
	ignoredVersion = "version"
	ignoredKind    = "kind"
	ignoredFull    = "max_nodes"
	ignoredLate    = "late" // answers to questions that are over, or were never asked
)

var ignoredReasons = [...]string{ignoredSize, ignoredGarbage, ignoredVersion, ignoredKind, ignoredFull, ignoredLate}

// errIgnored is a message that is not for us; its text is the reason.
type errIgnored string

// Error implements error.
func (e errIgnored) Error() string { return string(e) }

// parse reads a message. A message of another version has its first fields alone, and the error ignoredVersion.
func parse(data []byte) (m message, err error) {
	if len(data) > maxMessageBytes {
		return m, errIgnored(ignoredSize)
	}
	var first struct {
		Version int    `json:"v"`
		Kind    string `json:"kind"`
		From    string `json:"from"`
	}
	if json.Unmarshal(data, &first) != nil || first.Version < 1 || !isUID(first.From) {
		return m, errIgnored(ignoredGarbage)
	}
	if first.Version != protocolVersion {
		return message{Version: first.Version, Kind: first.Kind, From: first.From}, errIgnored(ignoredVersion)
	}
	if json.Unmarshal(data, &m) != nil {
		return m, errIgnored(ignoredGarbage)
	}
	return m, m.check()
}

func (m *message) check() error {
	ok := true
	switch m.Kind {
	case kindBeat:
		ok = m.Beat != nil && len(m.Beat.Name) <= maxNameBytes && len(m.Beat.Version) <= maxNameBytes && len(m.Beat.Figures) <= maxFigureBytes
	case kindAsk:
		ok = m.Method != "" && len(m.Method) <= maxMethodBytes && m.ID != 0 && m.Millis > 0 && m.Most > 0
	case kindAnswer:
		ok = m.ID != 0 && m.Part >= 0 && (m.Error == nil || m.Last && len(m.Error.Message) <= maxErrorBytes)
	case kindLeave:
	default:
		return errIgnored(ignoredKind)
	}
	if !ok {
		return errIgnored(ignoredGarbage)
	}
	return nil
}

// isUID reports whether s can name a node. It becomes a part of a subject, so it must not have what means something there.
func isUID(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return false
		}
	}
	return s != "" && len(s) <= maxUIDBytes
}

// encode makes the bytes of a message.
func (m *message) encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err == nil && len(b) > maxMessageBytes {
		err = fmt.Errorf("%w: a message of %d bytes", ErrTooLarge, len(b))
	}
	return b, err
}

// reasonOf is why a message was ignored.
func reasonOf(err error) string {
	var ignored errIgnored
	if errors.As(err, &ignored) {
		return string(ignored)
	}
	return ignoredGarbage
}
