package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// api publishes, as a backend does. Any goroutine.
type api struct {
	url    string
	key    string // empty without
	client *http.Client
}

var errNoAPI = errors.New("--api: the URL of the server's API is needed with --url")

func newAPI(t Target, timeout time.Duration) (*api, error) {
	if t.API == "" {
		return nil, errNoAPI
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second}
	return &api{url: t.API, key: t.APIKey, client: &http.Client{Transport: transport, Timeout: timeout}}, nil
}

// close closes the connections that wait for another request.
func (a *api) close() { a.client.CloseIdleConnections() }

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
		err = fmt.Errorf("publish: error %d %s", answer.Error.Code, answer.Error.Message)
	}
	return answer.Result.Offset, err
}

// present is how many are in a channel.
func (a *api) present(ctx context.Context, channel string) (int, error) {
	var answer struct {
		Error  *apiError `json:"error"`
		Result struct {
			Clients int `json:"num_clients"`
		} `json:"result"`
	}
	err := a.call(ctx, "presence_stats", map[string]any{"channel": channel}, &answer)
	if err == nil && answer.Error != nil {
		err = fmt.Errorf("presence_stats: error %d %s", answer.Error.Code, answer.Error.Message)
	}
	return answer.Result.Clients, err
}

// maxBroadcast is how many channels the API takes at a time.
const maxBroadcast = 10_000

// broadcast publishes data in all channels, and returns their offsets.
func (a *api) broadcast(ctx context.Context, channels []string, data []byte) (offsets []uint64, err error) {
	for len(channels) > 0 {
		some := channels[:min(len(channels), maxBroadcast)]
		channels = channels[len(some):]
		var answer struct {
			Error  *apiError `json:"error"`
			Result struct {
				Responses []apiPublished `json:"responses"`
			} `json:"result"`
		}
		if err := a.call(ctx, "broadcast", map[string]any{"channels": some, "data": json.RawMessage(data)}, &answer); err != nil {
			return nil, err
		}
		if answer.Error != nil {
			return nil, fmt.Errorf("broadcast: error %d %s", answer.Error.Code, answer.Error.Message)
		}
		if len(answer.Result.Responses) != len(some) {
			return nil, fmt.Errorf("broadcast: %d responses for %d channels", len(answer.Result.Responses), len(some))
		}
		for _, r := range answer.Result.Responses {
			if r.Error != nil {
				return nil, fmt.Errorf("broadcast: error %d %s", r.Error.Code, r.Error.Message)
			}
			offsets = append(offsets, r.Result.Offset)
		}
	}
	return offsets, nil
}

func (a *api) call(ctx context.Context, method string, body, answer any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return a.post(ctx, method, b, answer)
}

func (a *api) post(ctx context.Context, method string, b []byte, answer any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+method, bytes.NewReader(b))
	if err != nil {
		return err
	}
	if a.key != "" {
		request.Header.Set("X-API-Key", a.key)
	}
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if b, err = io.ReadAll(response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d: %.100s", method, response.StatusCode, b)
	}
	return json.Unmarshal(b, answer)
}
