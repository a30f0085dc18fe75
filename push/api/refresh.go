package api

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// Refresh is a new lifetime of connections.
type Refresh struct {
	Expired bool      // they are over
	Expires time.Time // zero is never
	// Info is what others may see of the client from now on. Nil changes nothing.
	Info json.RawMessage
}

type refreshRequest struct {
	target
	Expired  bool            `json:"expired"`
	ExpireAt int64           `json:"expire_at"`
	Info     json.RawMessage `json:"info"`
}

func (h *Handler) refresh(ctx context.Context, body []byte) (any, error) {
	var request refreshRequest
	if err := decode(body, &request); err != nil {
		return nil, err
	}
	t, err := request.target.target()
	if err != nil {
		return nil, err
	}
	r := Refresh{Expired: request.Expired}
	if string(request.Info) != "null" {
		r.Info = request.Info
	}
	if request.ExpireAt != 0 {
		r.Expires = time.Unix(request.ExpireAt, 0)
		if !r.Expired && !r.Expires.After(time.Now()) {
			return nil, &fieldError{hub.ErrExpired, "expire_at", `is over; "expired" ends connections`}
		}
	}
	return struct{}{}, h.config.Clients.Refresh(ctx, t, r)
}

type rpcRequest struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// rpc is for extensions of the server, and there are none. Clients' calls go to the backend.
func (h *Handler) rpc(_ context.Context, body []byte) (any, error) {
	var request rpcRequest
	if err := decode(body, &request); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: the server has no extensions that could be called", hub.ErrNotAvailable)
}
