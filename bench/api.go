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
	client *http.Client
}

var errNoAPI = errors.New("--api: the URL of the server's API is needed with --url")

func newAPI(t Target) (*api, error) {
	if t.API == "" {
		return nil, errNoAPI
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second}
	return &api{url: t.API, client: &http.Client{Transport: transport, Timeout: 30 * time.Second}}, nil
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

// publish publishes data, which is JSON, and returns its offset.
func (a *api) publish(ctx context.Context, channel string, data []byte) (uint64, error) {
	var answer apiPublished
	err := a.call(ctx, "publish", map[string]any{"channel": channel, "data": json.RawMessage(data)}, &answer)
	if err == nil && answer.Error != nil {
		err = fmt.Errorf("publish: error %d %s", answer.Error.Code, answer.Error.Message)
	}
	return answer.Result.Offset, err
}

// maxBroadcast is how many channels the API takes at a time.
const maxBroadcast = 10_000

// broadcast publishes data in all channels.
func (a *api) broadcast(ctx context.Context, channels []string, data []byte) error {
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
			return err
		}
		if answer.Error != nil {
			return fmt.Errorf("broadcast: error %d %s", answer.Error.Code, answer.Error.Message)
		}
		for _, r := range answer.Result.Responses {
			if r.Error != nil {
				return fmt.Errorf("broadcast: error %d %s", r.Error.Code, r.Error.Message)
			}
		}
	}
	return nil
}

func (a *api) call(ctx context.Context, method string, body, answer any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+method, bytes.NewReader(b))
	if err != nil {
		return err
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
