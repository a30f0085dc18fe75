package push

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// onNATS is a server whose history outlives it.
func onNATS(t *testing.T, dir string) *Server {
	t.Helper()
	return startServer(t, Config{
		Dev: true, DataDir: dir,
		NATS:       NATS{Embedded: true, Server: NATSServer{StoreBytes: 128 << 20}, Broker: NATSBroker{Groups: 2}},
		Namespaces: []Namespace{{Name: "kept", Options: ChannelOptions{HistorySize: 10, HistoryTTL: time.Hour, ForceRecovery: true}}, {Name: "live"}},
	})
}

// What was published before the end of a server is there after it, at the same position; what is published reaches who is there.
func TestHistoryOutlivesTheServer(t *testing.T) {
	dir := t.TempDir()
	s := onNATS(t, dir)
	type answer struct {
		Result struct {
			Offset       uint64
			Epoch        string
			Publications []struct{ Data json.RawMessage }
		}
	}
	var first, past answer
	c := dial(t, s.ws("/push?channels=kept:a,live:a"))
	next(t, c)
	ask := func(method, body string, to any) {
		t.Helper()
		if _, text := request(t, "POST", s.internalURL("/api/"+method), body); json.Unmarshal([]byte(text), to) != nil {
			t.Fatalf("%s: %s", method, text)
		}
	}
	ask("publish", `{"channel":"kept:a","data":"one"}`, &first)
	if m := next(t, c); !strings.Contains(m, `"one"`) {
		t.Errorf("%s", m)
	}
	request(t, "POST", s.internalURL("/api/publish"), `{"channel":"live:a","data":"two"}`)
	if m := next(t, c); !strings.Contains(m, `"two"`) {
		t.Errorf("%s", m)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	s = onNATS(t, dir)
	ask("history", `{"channel":"kept:a","limit":10}`, &past)
	if len(past.Result.Publications) != 1 || past.Result.Epoch != first.Result.Epoch || past.Result.Epoch == "" || past.Result.Offset < first.Result.Offset {
		t.Errorf("%+v after %+v", past, first)
	}
}

func TestNATSConfigNamesAll(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   []string
	}{
		{Config{NATS: NATS{Embedded: true}, Takeover: "x"}, []string{"data-dir", "takeover"}},
		{Config{DataDir: "x", NATS: NATS{Embedded: true, Link: NATSLink{URLs: []string{"nats://h:1"}}, Broker: NATSBroker{Replicas: 2}}}, []string{"nats-url", "replicas"}},
		{Config{NATS: NATS{Server: NATSServer{ClusterName: "c"}}}, []string{"nats-embedded"}},
		{Config{NATS: NATS{Link: NATSLink{URLs: []string{"h"}}, Server: NATSServer{ClusterName: "c"}}}, []string{"nats-url", "cluster-name"}},
	} {
		c.config.Dev = true
		err := c.config.Validate()
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s is not in: %v", want, err)
			}
		}
	}
}

// What a server that does not start says is what was wrong, and nothing of how it was given up.
func TestBrokerThatDoesNotFit(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := onNATS(t, dir).Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	_, err := New(Config{Dev: true, DataDir: dir, NATS: NATS{Embedded: true, Server: NATSServer{StoreBytes: 128 << 20}, Broker: NATSBroker{Groups: 3}}})
	if err == nil || !strings.Contains(err.Error(), "nats-groups") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
}
