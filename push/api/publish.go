package api

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// methods are the last parts of the paths. An error that is no *rejection is
// the answer to a request that was understood.
var methods map[string]func(h *Handler, ctx context.Context, body []byte) (any, error)

func init() { // batch is among them and looks others up
	methods = map[string]func(h *Handler, ctx context.Context, body []byte) (any, error){
		"publish":        (*Handler).publish,
		"broadcast":      (*Handler).broadcast,
		"subscribe":      (*Handler).subscribe,
		"unsubscribe":    (*Handler).unsubscribe,
		"disconnect":     (*Handler).disconnect,
		"refresh":        (*Handler).refresh,
		"rpc":            (*Handler).rpc,
		"presence":       (*Handler).presence,
		"presence_stats": (*Handler).presenceStats,
		"history":        (*Handler).history,
		"history_remove": (*Handler).historyRemove,
		"channels":       (*Handler).channels,
		"info":           (*Handler).info,
		"batch":          (*Handler).batch,

		"revoke_token":           (*Handler).revokeToken,
		"invalidate_user_tokens": (*Handler).invalidateUserTokens,
		"invalidate_all_tokens":  (*Handler).invalidateAllTokens,
	}
}

// methodNames lists them for people, and what else there is.
func methodNames() string {
	return strings.Join(slices.Sorted(maps.Keys(methods)), ", ") + "; and bulk"
}

// message is what publish and broadcast have in common.
type message struct {
	Data    json.RawMessage   `json:"data"`
	B64Data []byte            `json:"b64data"`
	Tags    map[string]string `json:"tags"`

	SkipHistory    bool   `json:"skip_history"`
	Delta          bool   `json:"delta"`
	IdempotencyKey string `json:"idempotency_key"`
	Version        uint64 `json:"version"`
	VersionEpoch   string `json:"version_epoch"`
	ExcludeClient  string `json:"exclude_client"`
	TTL            int64  `json:"ttl"` // seconds
}

// maxKeyBytes bounds an idempotency key, a version's epoch, a client's id and a pattern.
const maxKeyBytes = 255

// maxTTL is as good as for ever.
const maxTTL = 10 * 365 * 24 * 3600

// options are what a publication is made with.
func (m *message) options() (o hub.PublishOptions, err error) {
	switch {
	case len(m.IdempotencyKey) > maxKeyBytes:
		return o, tooLong("idempotency_key", len(m.IdempotencyKey))
	case len(m.VersionEpoch) > maxKeyBytes:
		return o, tooLong("version_epoch", len(m.VersionEpoch))
	case len(m.ExcludeClient) > maxKeyBytes:
		return o, tooLong("exclude_client", len(m.ExcludeClient))
	case m.TTL < 0 || m.TTL > maxTTL:
		return o, wrong("ttl", "is %d, want seconds from 0, which is no bound, to %d", m.TTL, maxTTL)
	}
	return hub.PublishOptions{
		Tags: m.Tags, SkipHistory: m.SkipHistory, Delta: m.Delta, IdempotencyKey: m.IdempotencyKey, Version: m.Version, VersionEpoch: m.VersionEpoch,
		ExcludeClient: m.ExcludeClient, TTL: time.Duration(m.TTL) * time.Second,
	}, nil
}

func tooLong(field string, n int) error {
	return wrong(field, "has %d bytes, at most %d are allowed", n, maxKeyBytes)
}

func tooMany(field string, n, most int) error {
	return &fieldError{hub.ErrLimitExceeded, field, fmt.Sprintf("has %d, at most %d are allowed", n, most)}
}

type publishRequest struct {
	Channel string `json:"channel"`
	message
}

type broadcastRequest struct {
	Channels []string `json:"channels"`
	Users    []string `json:"users"` // those whose personal channels are meant
	message
}

type publishResult struct {
	Offset uint64 `json:"offset,omitempty"`
	Epoch  string `json:"epoch,omitempty"`
}

type broadcastResult struct {
	Responses []response `json:"responses"`
}

func (h *Handler) publish(ctx context.Context, body []byte) (any, error) {
	var request publishRequest
	if err := decode(body, &request); err != nil {
		return nil, err
	}
	return h.doPublish(ctx, &request)
}

func (h *Handler) doPublish(ctx context.Context, request *publishRequest) (any, error) {
	if err := permitChannel(ctx, "channel", request.Channel); err != nil {
		return nil, err
	}
	data, err := request.payload()
	if err != nil {
		return nil, err
	}
	options, err := request.options()
	if err != nil {
		return nil, err
	}
	return h.send(ctx, request.Channel, data, options)
}

func (h *Handler) broadcast(ctx context.Context, body []byte) (any, error) {
	var request broadcastRequest
	if err := decode(body, &request); err != nil {
		return nil, err
	}
	return h.doBroadcast(ctx, &request)
}

func (h *Handler) doBroadcast(ctx context.Context, request *broadcastRequest) (any, error) {
	switch n := len(request.Channels) + len(request.Users); {
	case n == 0:
		return nil, missing("channels")
	case n > h.config.MaxChannels:
		return nil, tooMany("channels", n, h.config.MaxChannels)
	case len(request.Users) > 0 && h.config.PersonalChannel == nil:
		return nil, &fieldError{hub.ErrNotAvailable, "users", "needs personal channels: serve --personal-channels"}
	}
	data, err := request.payload()
	if err != nil {
		return nil, err
	}
	options, err := request.options()
	if err != nil {
		return nil, err
	}
	responses := make([]response, len(request.Channels)+len(request.Users))
	together(len(responses), h.config.Together, func(i int) {
		if result, err := h.sendToPlace(ctx, request, i, data, options); err != nil {
			responses[i].Error = h.describe(callOf(ctx), err)
		} else {
			responses[i].Result = result
		}
	})
	return broadcastResult{responses}, nil
}

// sendToPlace publishes to one of a broadcast's channels and users.
func (h *Handler) sendToPlace(ctx context.Context, request *broadcastRequest, i int, data []byte, options hub.PublishOptions) (any, error) {
	if i < len(request.Channels) {
		return h.sendPermitted(ctx, "channels", i, request.Channels[i], data, options)
	}
	i -= len(request.Channels)
	channel, err := h.config.PersonalChannel(request.Users[i])
	if err != nil {
		return nil, &fieldError{hub.ErrBadRequest, fmt.Sprintf("users[%d]", i), err.Error()}
	}
	return h.sendPermitted(ctx, "users", i, channel, data, options)
}

// together calls do for 0 to n-1, at most so many at a time, and returns when all are done. A panic is the caller's.
func together(n, most int, do func(i int)) {
	var next atomic.Int64
	var panicked atomic.Pointer[any]
	work := func() {
		defer func() {
			if value := recover(); value != nil {
				panicked.Store(&value)
			}
		}()
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			do(i)
		}
	}
	var group sync.WaitGroup
	for range min(n, most) - 1 {
		group.Go(work)
	}
	work()
	group.Wait()
	if value := panicked.Load(); value != nil {
		panic(*value)
	}
}

// sendPermitted publishes to a channel at a place of a list, if the key is good for it.
func (h *Handler) sendPermitted(ctx context.Context, list string, place int, channel string, data []byte, options hub.PublishOptions) (any, error) {
	if !callOf(ctx).key.permits(channel) {
		h.failed.Add(1)
		return nil, permitChannel(ctx, fmt.Sprintf("%s[%d]", list, place), channel)
	}
	return h.send(ctx, channel, data, options)
}

func (h *Handler) send(ctx context.Context, channel string, data []byte, options hub.PublishOptions) (any, error) {
	position, err := h.config.Hub.Publish(ctx, channel, data, options)
	if err != nil {
		h.failed.Add(1)
		return nil, err
	}
	h.published.Add(1)
	return publishResult{position.Offset, position.Epoch}, nil
}

// payload returns the bytes to publish: one of data and b64data.
func (m *message) payload() ([]byte, error) {
	switch {
	case m.Data != nil && m.B64Data != nil:
		return nil, fmt.Errorf(`%w: there are both "data" and "b64data"`, hub.ErrBadRequest)
	case m.Data != nil:
		return m.Data, nil
	case m.B64Data != nil:
		return m.B64Data, nil
	}
	return nil, missing("data")
}
