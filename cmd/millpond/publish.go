package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// apiTimeout bounds a request to the API.
const apiTimeout = 30 * time.Second

// publishCommand publishes through the API, as a backend does.
type publishCommand struct {
	URL            string            `name:"url" help:"The server's internal address." default:"http://127.0.0.1:8001"`
	APIKeyFile     string            `name:"api-key-file" help:"File with a key for the API, in its first line." type:"existingfile" placeholder:"FILE"`
	Tag            map[string]string `help:"KEY=VALUE that travels with the message; repeatable."`
	IdempotencyKey string            `help:"Publish only once with this key, within five minutes."`
	SkipHistory    bool              `help:"Leave the message out of the channel's history."`
	Delta          bool              `help:"Let subscribers that want so have the difference to the message before."`
	String         bool              `help:"Send DATA as a JSON string, whatever it is."`

	Channel string `arg:"" help:"The channel."`
	Data    string `arg:"" help:"The data, JSON; - reads it from the standard input."`
}

// Run publishes, and prints the message's position.
func (c *publishCommand) Run(ctx context.Context, s *streams) error {
	data, err := c.data(os.Stdin)
	if err != nil {
		return err
	}
	request := map[string]any{"channel": c.Channel, "data": data}
	for name, value := range map[string]any{"tags": c.Tag, "idempotency_key": c.IdempotencyKey, "skip_history": c.SkipHistory, "delta": c.Delta} {
		request[name] = value
	}
	result, err := callAPI(ctx, c.URL, c.APIKeyFile, "publish", request)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s\n", result)
	return err
}

func (c *publishCommand) data(stdin io.Reader) (json.RawMessage, error) {
	data := []byte(c.Data)
	if c.Data == "-" {
		var err error
		if data, err = io.ReadAll(stdin); err != nil {
			return nil, err
		}
	}
	if c.String {
		return json.Marshal(string(data))
	}
	if !json.Valid(data) {
		return nil, errors.New(`the data is not JSON; --string sends it as a JSON string`)
	}
	return data, nil
}

// callAPI calls a method and returns its result.
func callAPI(ctx context.Context, url, keyFile, method string, request any) (json.RawMessage, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(url, "/")+"/api/"+method, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	key, err := readSecret(keyFile)
	if err != nil {
		return nil, fmt.Errorf("api-key-file: %w", err)
	}
	if first, _, _ := bytes.Cut(key, []byte("\n")); len(first) > 0 {
		r.Header.Set("X-API-Key", string(bytes.TrimSpace(first)))
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: the answer, %s, is not the API's: %w", url, response.Status, err)
	}
	if answer.Error != nil {
		return nil, fmt.Errorf("%s (code %d)", answer.Error.Message, answer.Error.Code)
	}
	return answer.Result, nil
}
