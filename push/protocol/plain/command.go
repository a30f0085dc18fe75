package plain

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/millpond/millpond/push/hub"
)

// maxIDBytes bounds an id as it is written, quotes included.
const maxIDBytes = 64

// rawID is an id as the client wrote it, a JSON string or number; nil if there
// is none.
type rawID = json.RawMessage

// command is one message of a client.
type command struct {
	Type    string          `json:"type"`
	ID      rawID           `json:"id"`
	Payload json.RawMessage `json:"payload"`
}

type loginPayload struct {
	Token    string `json:"token"`
	Username string `json:"username"`
	Password string `json:"password"`

	// For the backend, of a client that shows nothing.
	Data    json.RawMessage   `json:"data"`
	Headers map[string]string `json:"headers"`
}

type channelsPayload struct {
	Channel   *string         `json:"channel"`
	Channels  []string        `json:"channels"`
	Since     json.RawMessage `json:"since"`
	JoinLeave bool            `json:"join_leave"`
	Data      json.RawMessage `json:"data"` // for the backend
}

type channelPayload struct {
	Channel *string `json:"channel"`
}

type historyPayload struct {
	Limit   int       `json:"limit"`
	Since   *position `json:"since"`
	Reverse bool      `json:"reverse"`
}

// position is a place in a channel's stream, as clients write it.
type position struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch"`
}

func (p *position) hub() *hub.Position { return &hub.Position{Offset: p.Offset, Epoch: p.Epoch} }

type publishPayload struct {
	Channel *string         `json:"channel"`
	Data    json.RawMessage `json:"data"`
}

// fault is a message that is no command. It counts towards Config.MaxFaults.
type fault struct{ error }

func (f fault) Unwrap() error { return f.error }

func badRequest(format string, args ...any) error {
	return fault{fmt.Errorf("%w: %s", hub.ErrBadRequest, fmt.Sprintf(format, args...))}
}

func isFault(err error) bool {
	var f fault
	return errors.As(err, &f)
}

// parseCommand reads a message. With an error, the command has the ID if that
// could be read, and nothing else.
func parseCommand(payload []byte) (command, error) {
	var c command
	if err := unmarshal("", payload, &c); err != nil {
		// The decoder goes on after a field of a wrong type.
		if checkID(c.ID) != nil {
			c.ID = nil
		}
		return command{ID: c.ID}, err
	}
	if string(c.ID) == "null" {
		c.ID = nil
	}
	if err := checkID(c.ID); err != nil {
		return command{}, err
	}
	if c.Type == "" {
		return command{ID: c.ID}, badRequest(`"type" is missing; it is one of %s`, commandTypes)
	}
	return c, nil
}

func checkID(id rawID) error {
	if len(id) == 0 {
		return nil
	}
	if first := id[0]; first != '"' && first != '-' && (first < '0' || first > '9') {
		return badRequest(`"id" must be a string or a number`)
	}
	if len(id) > maxIDBytes {
		return badRequest(`"id" has %d bytes, at most %d are allowed`, len(id), maxIDBytes)
	}
	return nil
}

// payload reads the command's payload into v. Fields that v doesn't have are
// ignored.
func (c *command) payload(v any) error {
	if len(c.Payload) == 0 || c.Payload[0] != '{' {
		return badRequest(`%s needs a "payload" object`, c.Type)
	}
	return unmarshal("payload.", c.Payload, v)
}

// unmarshal is json.Unmarshal with errors for the eyes of a client. path is
// where data stands in the message.
func unmarshal(path string, data []byte, v any) error {
	err := json.Unmarshal(data, v)
	if err == nil {
		if path == "" && firstByte(data) != '{' { // null goes into any type
			return badRequest("the message must be a JSON object")
		}
		return nil
	}
	var mismatch *json.UnmarshalTypeError
	switch {
	case !errors.As(err, &mismatch):
		return badRequest("the message is not JSON: %v", err)
	case mismatch.Field == "":
		return badRequest("the message must be a JSON object, not %s", clip(mismatch.Value))
	default:
		return badRequest("%q has the wrong type: %s", path+mismatch.Field, clip(mismatch.Value))
	}
}

// firstByte returns the first byte of data that is not white space.
func firstByte(data []byte) byte {
	for _, b := range data {
		if b != ' ' && b != '\t' && b != '\r' && b != '\n' {
			return b
		}
	}
	return 0
}
