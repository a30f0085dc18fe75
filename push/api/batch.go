package api

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/millpond/millpond/push/hub"
)

// maxParallel bounds the commands of one batch that are carried out at the same time.
const maxParallel = 16

type batchRequest struct {
	Commands []map[string]json.RawMessage `json:"commands"` // each {"METHOD":{…}}
	Parallel bool                         `json:"parallel"`
}

// batch carries out several commands, one after another or at the same time, and answers each: {"METHOD":{…}}, or {"error":{…}}.
func (h *Handler) batch(ctx context.Context, body []byte) (any, error) {
	var request batchRequest
	if err := decode(body, &request); err != nil {
		return nil, err
	}
	if len(request.Commands) == 0 {
		return nil, missing("commands")
	}
	if n := len(request.Commands); n > h.config.MaxCommands {
		return nil, fmt.Errorf("%w: %d commands, at most %d are allowed", hub.ErrLimitExceeded, n, h.config.MaxCommands)
	}
	replies := make([]map[string]any, len(request.Commands))
	if !request.Parallel {
		for i, command := range request.Commands {
			replies[i] = h.command(ctx, command)
		}
		return map[string]any{"replies": replies}, nil
	}
	var group sync.WaitGroup
	free := make(chan struct{}, maxParallel)
	for i, command := range request.Commands {
		free <- struct{}{}
		group.Go(func() {
			defer func() { <-free }()
			replies[i] = h.command(ctx, command)
		})
	}
	group.Wait()
	return map[string]any{"replies": replies}, nil
}

// command carries out one command of a batch.
func (h *Handler) command(ctx context.Context, command map[string]json.RawMessage) map[string]any {
	if len(command) != 1 {
		return map[string]any{"error": h.describe(fmt.Errorf(`%w: a command is {"METHOD":{…}}`, hub.ErrBadRequest))}
	}
	for name, body := range command {
		method, found := methods[name]
		if !found || name == "batch" {
			return map[string]any{"error": h.describe(fmt.Errorf("%w: %.40q in a batch", hub.ErrMethodNotFound, name))}
		}
		result, err := method(h, ctx, body)
		if err != nil {
			return map[string]any{"error": h.describe(err)}
		}
		return map[string]any{name: result}
	}
	panic("unreachable: it has one")
}
