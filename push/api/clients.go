package api

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// Clients are the connections, as far as a backend may do something to them. The methods wait until it is done, on this
// node.
type Clients interface {
	Subscribe(ctx context.Context, t Target, s Subscription) error
	// Unsubscribe ends the subscriptions to a channel, or to all if it is empty.
	Unsubscribe(ctx context.Context, t Target, channel string) error
	Disconnect(ctx context.Context, t Target, d Disconnect) error
	Refresh(ctx context.Context, t Target, r Refresh) error
}

// Target says which connections are meant: those of a user, or one of them.
type Target struct {
	User   string
	Client string // the connection's id; empty is all
}

// Subscription is one that a backend makes.
type Subscription struct {
	Channel  string
	Info     json.RawMessage // what others in the channel may see
	Data     []byte          // for the client
	Expires  time.Time       // zero is never
	Since    *hub.Position   // what was published since is delivered first
	Override *hub.Override   // what is different for it in the channel's options; nil is nothing
}

// Disconnect is why connections are ended.
type Disconnect struct {
	Code   uint16 // of a close frame; 0 is the protocol's own for such a case
	Reason string
	Keep   []string // connections that stay, by id
}

// target is what several requests begin with.
type target struct {
	User    string `json:"user"`
	Client  string `json:"client"`
	Session string `json:"session"` // another name that clients may have; there is none here
}

func (t target) target() (Target, error) {
	if t.User == "" {
		return Target{}, missing("user")
	}
	if t.Session != "" {
		return Target{}, wrong("session", `is set, but there are no sessions here: name the "client"`)
	}
	return Target{t.User, t.Client}, nil
}

type subscribeRequest struct {
	target
	Channel      string          `json:"channel"`
	ExpireAt     int64           `json:"expire_at"`
	Info         json.RawMessage `json:"info"`
	B64Info      []byte          `json:"b64info"`
	Data         json.RawMessage `json:"data"`
	B64Data      []byte          `json:"b64data"`
	RecoverSince *position       `json:"recover_since"`
	Override     *hub.Override   `json:"override"`
}

func (h *Handler) subscribe(ctx context.Context, body []byte) (any, error) {
	var request subscribeRequest
	if err := decode(body, &request); err != nil {
		return nil, err
	}
	t, err := request.target.target()
	if err != nil {
		return nil, err
	}
	if err := permitChannel(ctx, "channel", request.Channel); err != nil {
		return nil, err
	}
	s := Subscription{Channel: request.Channel, Override: request.Override}
	if s.Info, err = either("info", request.Info, request.B64Info); err != nil {
		return nil, err
	}
	if len(s.Info) > 0 && !json.Valid(s.Info) {
		return nil, wrong("b64info", "is not JSON, which clients are shown")
	}
	if s.Data, err = either("data", request.Data, request.B64Data); err != nil {
		return nil, err
	}
	if request.ExpireAt != 0 {
		s.Expires = time.Unix(request.ExpireAt, 0)
	}
	if p := request.RecoverSince; p != nil {
		s.Since = &hub.Position{Offset: p.Offset, Epoch: p.Epoch}
	}
	return struct{}{}, h.config.Clients.Subscribe(ctx, t, s)
}

// either returns the bytes of a field that may come as JSON or in base64.
func either(name string, plain json.RawMessage, b64 []byte) ([]byte, error) {
	switch {
	case len(plain) > 0 && len(b64) > 0:
		return nil, fmt.Errorf(`%w: there are both %q and "b64%s"`, hub.ErrBadRequest, name, name)
	case len(b64) > 0:
		return b64, nil
	case string(plain) == "null":
		return nil, nil
	}
	return plain, nil
}

type unsubscribeRequest struct {
	target
	Channel string `json:"channel"`
}

func (h *Handler) unsubscribe(ctx context.Context, body []byte) (any, error) {
	var request unsubscribeRequest
	if err := decode(body, &request); err != nil {
		return nil, err
	}
	t, err := request.target.target()
	if err != nil {
		return nil, err
	}
	if request.Channel != "" || callOf(ctx).key.limited() {
		if err := permitChannel(ctx, "channel", request.Channel); err != nil {
			return nil, err
		}
	}
	return struct{}{}, h.config.Clients.Unsubscribe(ctx, t, request.Channel)
}

type disconnectRequest struct {
	target
	Whitelist  []string `json:"whitelist"`
	Disconnect *struct {
		Code   uint16 `json:"code"`
		Reason string `json:"reason"`
	} `json:"disconnect"`
}

func (h *Handler) disconnect(ctx context.Context, body []byte) (any, error) {
	var request disconnectRequest
	if err := decode(body, &request); err != nil {
		return nil, err
	}
	t, err := request.target.target()
	if err != nil {
		return nil, err
	}
	d := Disconnect{Keep: request.Whitelist}
	if request.Disconnect != nil {
		d.Code, d.Reason = request.Disconnect.Code, request.Disconnect.Reason
		if d.Code < 3000 || d.Code > 4999 || len(d.Reason) > maxReasonBytes {
			return nil, wrong("disconnect", "needs a code of 3000 to 4999, and a reason of at most %d bytes", maxReasonBytes)
		}
	}
	return struct{}{}, h.config.Clients.Disconnect(ctx, t, d)
}

// maxReasonBytes is what a close frame has room for (RFC 6455 §5.5.1).
const maxReasonBytes = 123
