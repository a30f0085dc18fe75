package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
)

// maxParallel bounds the commands of one batch that are carried out at the same time.
const maxParallel = 16

type batchRequest struct {
	Commands []map[string]json.RawMessage `json:"commands"` // each {"METHOD":{…}}
	Parallel bool                         `json:"parallel"`
}

// batch carries out several commands, one after another or at the same time, and answers each: {"METHOD":{…}}, or
// {"error":{…}}.
func (h *Handler) batch(ctx context.Context, body []byte) (any, error) {
	var request batchRequest
	if err := decode(body, &request); err != nil {
		return nil, err
	}
	if len(request.Commands) == 0 {
		return nil, missing("commands")
	}
	if n := len(request.Commands); n > h.config.MaxCommands {
		return nil, tooMany("commands", n, h.config.MaxCommands)
	}
	charge(callOf(ctx).key.requests, len(request.Commands)-1)
	most := 1
	if request.Parallel {
		most = maxParallel
	}
	replies := make([][]byte, len(request.Commands))
	together(len(replies), most, func(i int) { replies[i] = h.command(ctx, i, request.Commands[i]) })
	return joinReplies(replies), nil
}

// joinReplies makes the whole answer to a batch: in a result, as those to all methods, and beside it, where Centrifugo's libraries look for it.
func joinReplies(replies [][]byte) encoded {
	list := bytes.Join(replies, []byte{','})
	out := make([]byte, 0, 2*len(list)+64)
	out = append(append(out, `{"replies":[`...), list...)
	out = append(append(out, `],"result":{"replies":[`...), list...)
	return append(out, "]}}\n"...)
}

// command carries out one command of a batch, and returns the reply.
func (h *Handler) command(ctx context.Context, place int, command map[string]json.RawMessage) []byte {
	for name, body := range command {
		if len(command) > 1 {
			break
		}
		result, err := h.invoke(ctx, name, body)
		if err != nil {
			return appendReply(nil, "error", h.describe(callOf(ctx), within(fmt.Sprintf("commands[%d].%s", place, name), err)))
		}
		reply := appendReply(nil, name, result)
		callOf(ctx).answered.Add(int64(len(reply)))
		return reply
	}
	err := wrong(fmt.Sprintf("commands[%d]", place), `is not {"METHOD":{…}}`)
	return appendReply(nil, "error", h.describe(callOf(ctx), err))
}

// appendReply adds an object with one field, of which the name needs no escapes.
func appendReply(b []byte, name string, v any) []byte {
	value, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("api: %s %+v: %v", name, v, err)) // all its types can be marshalled
	}
	b = append(append(append(b, '{', '"'), name...), '"', ':')
	return append(append(b, value...), '}')
}
