package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/millpond/millpond/push/hub"
)

// pipeCommand is a command as older libraries of Centrifugo send it, to /api itself.
type pipeCommand struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

type pipeReply struct {
	ID json.RawMessage `json:"id,omitempty"`
	response
}

// pipe carries out the commands of a body, {"method":…,"params":{…}} one after another, and answers each on a line of
// its own.
func (h *Handler) pipe(w http.ResponseWriter, r *http.Request, c *call) (any, error) {
	return h.whole(w, r, c, func(ctx context.Context, body []byte) (any, error) {
		commands, err := h.decodePipe(body)
		if err != nil {
			return nil, err
		}
		charge(c.key.requests, len(commands)-1)
		var out bytes.Buffer
		for i, command := range commands {
			reply := pipeReply{ID: command.ID}
			if reply.Result, err = h.invoke(ctx, command.Method, command.Params); err != nil {
				reply.Result, reply.Error = nil, h.describe(c, within(fmt.Sprintf("[%d].params", i), err))
			}
			b, err := json.Marshal(reply)
			if err != nil {
				return nil, err
			}
			if i > 0 { // not behind the last one: some libraries split the answer there
				out.WriteByte('\n')
			}
			out.Write(b)
			c.answered.Store(int64(out.Len()))
		}
		return encoded(out.Bytes()), nil
	})
}

// decodePipe reads all commands, before any is carried out.
func (h *Handler) decodePipe(body []byte) (commands []pipeCommand, err error) {
	if !utf8.Valid(body) {
		return nil, notUTF8()
	}
	for d := json.NewDecoder(bytes.NewReader(body)); ; {
		var command pipeCommand
		switch err := d.Decode(&command); {
		case errors.Is(err, io.EOF) && len(commands) > 0:
			return commands, nil
		case errors.Is(err, io.EOF):
			return nil, reject(http.StatusBadRequest, hub.ErrBadRequest, `there is no {"method":…,"params":{…}}`)
		case err != nil:
			return nil, within(fmt.Sprintf("[%d]", len(commands)), notDecoded(err))
		case len(commands) == h.config.MaxCommands:
			return nil, tooMany("commands", len(commands)+1, h.config.MaxCommands)
		}
		commands = append(commands, command)
	}
}
