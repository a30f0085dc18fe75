package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

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
		"presence":       (*Handler).presence,
		"presence_stats": (*Handler).presenceStats,
		"history":        (*Handler).history,
		"history_remove": (*Handler).historyRemove,
		"channels":       (*Handler).channels,
		"info":           (*Handler).info,
		"batch":          (*Handler).batch,
	}
}

// methodNames lists them for people.
func methodNames() string { return strings.Join(slices.Sorted(maps.Keys(methods)), ", ") }

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
}

// maxKeyBytes bounds an idempotency key and a version's epoch.
const maxKeyBytes = 255

// options are what a publication is made with.
func (m *message) options() (hub.PublishOptions, error) {
	for name, value := range map[string]string{"idempotency_key": m.IdempotencyKey, "version_epoch": m.VersionEpoch} {
		if len(value) > maxKeyBytes {
			return hub.PublishOptions{}, fmt.Errorf("%w: %q has %d bytes, at most %d are allowed", hub.ErrBadRequest, name, len(value), maxKeyBytes)
		}
	}
	return hub.PublishOptions{
		Tags: m.Tags, SkipHistory: m.SkipHistory, Delta: m.Delta, IdempotencyKey: m.IdempotencyKey, Version: m.Version, VersionEpoch: m.VersionEpoch,
	}, nil
}

type publishRequest struct {
	Channel string `json:"channel"`
	message
}

type broadcastRequest struct {
	Channels []string `json:"channels"`
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
	if request.Channel == "" {
		return nil, missing("channel")
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
	if len(request.Channels) == 0 {
		return nil, missing("channels")
	}
	if n := len(request.Channels); n > h.config.MaxChannels {
		return nil, fmt.Errorf("%w: broadcast to %d channels, at most %d are allowed", hub.ErrLimitExceeded, n, h.config.MaxChannels)
	}
	data, err := request.payload()
	if err != nil {
		return nil, err
	}
	options, err := request.options()
	if err != nil {
		return nil, err
	}
	responses := make([]response, 0, len(request.Channels))
	for _, channel := range request.Channels {
		result, err := h.send(ctx, channel, data, options)
		if err != nil {
			responses = append(responses, response{Error: h.describe(err)})
			continue
		}
		responses = append(responses, response{Result: result})
	}
	return broadcastResult{responses}, nil
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

func missing(field string) error {
	return fmt.Errorf("%w: %q is missing or empty", hub.ErrBadRequest, field)
}

// written returns a field's path as the request has it, without the structs that several requests have in common.
func written(path string) string {
	parts := slices.DeleteFunc(strings.Split(path, "."), func(part string) bool { return part == "message" || part == "target" })
	return strings.Join(parts, ".")
}

// decodeOptional is decode for requests that may as well say nothing.
func decodeOptional(body []byte, v any) error {
	if len(body) == 0 {
		return nil
	}
	return decode(body, v)
}

// decode reads a request's body, one JSON object, into v.
func decode(body []byte, v any) error {
	if !utf8.Valid(body) {
		// RFC 8259 §8.1: JSON text MUST be encoded using UTF-8. And a text
		// frame that is not would cost every subscriber its connection.
		return reject(http.StatusBadRequest, hub.ErrBadRequest, "the body is not valid UTF-8")
	}
	err := json.Unmarshal(body, v)
	if err == nil {
		return nil
	}
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return reject(http.StatusBadRequest, hub.ErrBadRequest, "the body is not JSON: %v at byte %d", syntax, syntax.Offset)
	case errors.As(err, &mismatch) && mismatch.Field != "":
		return reject(http.StatusBadRequest, hub.ErrBadRequest, "%q has the wrong type: %s", written(mismatch.Field), mismatch.Value)
	case errors.As(err, &mismatch):
		return reject(http.StatusBadRequest, hub.ErrBadRequest, "the body must be a JSON object, not %s", mismatch.Value)
	}
	// What remains is base64, and of that there is one field.
	return reject(http.StatusBadRequest, hub.ErrBadRequest, `"b64data" is not base64: %v`, err)
}
