package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/hub"
)

// The history over the API, against a real hub and broker.
func TestHistory(t *testing.T) {
	h, err := hub.New(hub.Config{
		Broker: memory.New(memory.Config{}), Executor: inline{},
		Namespaces: []hub.Namespace{{Name: "orders", Options: hub.Options{HistorySize: 3, HistoryTTL: time.Minute}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	a := newHandler(t, Config{Hub: h, Insecure: true})
	var epoch string
	for _, step := range []struct {
		method, body string
		status       int
		want         string // with E for the epoch
	}{
		{"history", `{"channel":"orders:1"}`, 200, `{"result":{"publications":[],"epoch":"E","offset":0}}`},
		{"publish", `{"channel":"orders:1","data":{"n":1},"tags":{"a":"b"}}`, 200, `{"result":{"offset":1,"epoch":"E"}}`},
		{"publish", `{"channel":"orders:1","data":2,"idempotency_key":"k"}`, 200, `{"result":{"offset":2,"epoch":"E"}}`},
		{"publish", `{"channel":"orders:1","data":2,"idempotency_key":"k"}`, 200, `{"result":{"offset":2,"epoch":"E"}}`},
		{"publish", `{"channel":"orders:1","b64data":"/w=="}`, 200, `{"result":{"offset":3,"epoch":"E"}}`},
		{"publish", `{"channel":"orders:1","data":"passing by","skip_history":true}`, 200, `{"result":{}}`},
		{"publish", `{"channel":"orders:1","data":4,"version":7}`, 200, `{"result":{"offset":4,"epoch":"E"}}`},
		{"publish", `{"channel":"orders:1","data":5,"version":7}`, 200, `{"result":{"offset":4,"epoch":"E"}}`},
		{
			"history", `{"channel":"orders:1","limit":-1}`, 200,
			`{"result":{"publications":[{"data":2,"offset":2},{"b64data":"/w==","offset":3},{"data":4,"offset":4}],"epoch":"E","offset":4}}`,
		},
		{"history", `{"channel":"orders:1","limit":1,"reverse":true}`, 200, `{"result":{"publications":[{"data":4,"offset":4}],"epoch":"E","offset":4}}`},
		{"history", `{"channel":"orders:1","limit":1,"since":{"offset":3,"epoch":"E"}}`, 200, `{"result":{"publications":[{"data":4,"offset":4}],"epoch":"E","offset":4}}`},
		{"history", `{"channel":"orders:1","limit":1,"since":{"offset":3,"epoch":"x"}}`, 200, `"code":112`},
		{"history", `{"channel":"orders:1","limit":1,"since":{"offset":0},"reverse":true}`, 200, `"code":107`},
		{"history", `{"channel":"other"}`, 200, `"code":108`},
		{"history", `{"channel":"none:1"}`, 200, `"code":102`},
		{"history", `{}`, 200, `"code":107`},
		{"history", `{"channel":"orders:1","limit":"all"}`, 400, `"limit\" has the wrong type`},
		{"publish", `{"channel":"orders:1","data":1,"idempotency_key":"` + strings.Repeat("k", 300) + `"}`, 200, `"code":107`},
		{"history_remove", `{"channel":"orders:1"}`, 200, `{"result":{}}`},
		{"history", `{"channel":"orders:1","limit":-1}`, 200, `{"result":{"publications":[],"epoch":"E","offset":4}}`},
		{"history_remove", `{"channel":"other"}`, 200, `"code":108`},
		{"history_remove", `{}`, 200, `"code":107`},
	} {
		status, body, _ := do(a, request("POST", "/api/"+step.method, strings.ReplaceAll(step.body, `"E"`, `"`+epoch+`"`)))
		if epoch == "" {
			var answer struct{ Result struct{ Epoch string } }
			if err := json.Unmarshal([]byte(body), &answer); err != nil {
				t.Fatal(err)
			}
			epoch = answer.Result.Epoch
		}
		if want := strings.ReplaceAll(step.want, `"E"`, `"`+epoch+`"`); status != step.status || body != want && (strings.HasPrefix(want, "{") || !strings.Contains(body, want)) {
			t.Errorf("%s %.80s: %d %s, want %d %s", step.method, step.body, status, body, step.status, want)
		}
	}
}
