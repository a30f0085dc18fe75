package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// api publishes, as a backend does. Any goroutine.
type api struct{ conns *apiConns }

var errNoAPI = errors.New("--api: the URL of the server's API is needed with --url")

func newAPI(t Target, timeout time.Duration) (*api, error) {
	if t.API == "" {
		return nil, errNoAPI
	}
	conns, err := newAPIConns(t, timeout)
	return &api{conns}, err
}

func (a *api) close() { a.conns.close() }

// apiError is a refusal.
type apiError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

type apiPublished struct {
	Error  *apiError `json:"error"`
	Result struct {
		Offset uint64 `json:"offset"`
	} `json:"result"`
}

// Error implements error.
func (e *apiError) Error() string { return fmt.Sprintf("error %d %s", e.Code, e.Message) }

// unavailable reports whether err is a refusal because the channel has not what was asked for, or it may not be asked.
func unavailable(err error) bool {
	var e *apiError
	return errors.As(err, &e) && absent(uint32(e.Code))
}

// absent reports whether a code says so; clients are told the same ones.
func absent(code uint32) bool { return code == 103 || code == 108 }

// publish publishes data in a channel, both JSON, and returns its offset. With a key, a publication that was accepted
// before is not published again.
func (a *api) publish(ctx context.Context, channel, data []byte, key string) (uint64, error) {
	var answer apiPublished
	b := make([]byte, 0, 64+len(channel)+len(data))
	b = append(append(append(append(b, `{"channel":`...), channel...), `,"data":`...), data...)
	if key != "" {
		b = append(append(append(b, `,"idempotency_key":"`...), key...), '"')
	}
	err := a.post(ctx, "publish", append(b, '}'), &answer)
	if err == nil && answer.Error != nil {
		err = fmt.Errorf("publish: %w", answer.Error)
	}
	return answer.Result.Offset, err
}

// present is how many are in a channel.
func (a *api) present(ctx context.Context, channel string) (int, error) {
	result, err := call[struct {
		Clients int `json:"num_clients"`
	}](ctx, a, "presence_stats", map[string]any{"channel": channel})
	return result.Clients, err
}

// presence is how many a channel's presence lists.
func (a *api) presence(ctx context.Context, channel string) (int, error) {
	result, err := call[struct {
		Presence map[string]json.RawMessage `json:"presence"`
	}](ctx, a, "presence", map[string]any{"channel": channel})
	return len(result.Presence), err
}

// history is the end of a channel's.
type history struct {
	Publications []struct {
		Offset uint64          `json:"offset"`
		Data   json.RawMessage `json:"data"`
	} `json:"publications"`
	Offset uint64 `json:"offset"` // the channel's
	Epoch  string `json:"epoch"`
}

// history returns the last limit publications of a channel, the newest one first.
func (a *api) history(ctx context.Context, channel string, limit int) (history, error) {
	return call[history](ctx, a, "history", map[string]any{"channel": channel, "limit": limit, "reverse": true})
}

// maxBroadcast is how many channels the API takes at a time.
const maxBroadcast = 10_000

// broadcast publishes data in all channels, and returns their offsets.
func (a *api) broadcast(ctx context.Context, channels []string, data []byte) (offsets []uint64, err error) {
	for len(channels) > 0 {
		some := channels[:min(len(channels), maxBroadcast)]
		channels = channels[len(some):]
		result, err := call[struct {
			Responses []apiPublished `json:"responses"`
		}](ctx, a, "broadcast", map[string]any{"channels": some, "data": json.RawMessage(data)})
		if err != nil {
			return nil, err
		}
		if len(result.Responses) != len(some) {
			return nil, fmt.Errorf("broadcast: %d responses for %d channels", len(result.Responses), len(some))
		}
		for _, r := range result.Responses {
			if r.Error != nil {
				return nil, fmt.Errorf("broadcast: %w", r.Error)
			}
			offsets = append(offsets, r.Result.Offset)
		}
	}
	return offsets, nil
}

// call calls a method and returns its result; a refusal is an error.
func call[T any](ctx context.Context, a *api, method string, body any) (T, error) {
	var answer struct {
		Error  *apiError `json:"error"`
		Result T         `json:"result"`
	}
	b, err := json.Marshal(body)
	if err == nil {
		err = a.post(ctx, method, b, &answer)
	}
	if err == nil && answer.Error != nil {
		err = fmt.Errorf("%s: %w", method, answer.Error)
	}
	return answer.Result, err
}

func (a *api) post(ctx context.Context, method string, b []byte, answer any) error {
	b, err := a.conns.post(ctx, method, b)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, answer)
}
