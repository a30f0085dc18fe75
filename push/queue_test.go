package push

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	gonats "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// startStreams starts a server of NATS with streams, and returns its address.
func startStreams(t *testing.T, names ...string) (address string, js jetstream.JetStream) {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server of NATS is not ready")
	}
	c, err := gonats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if js, err = jetstream.New(c); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}, Retention: jetstream.LimitsPolicy}); err != nil {
			t.Fatal(err)
		}
	}
	return s.ClientURL(), js
}

// What a backend puts into a queue comes to the subscribers as if it had come by HTTP; what cannot be published is kept elsewhere.
func TestQueue(t *testing.T) {
	address, js := startStreams(t, "work", "dead")
	config := Config{
		Dev: true, PersonalChannels: true, Namespaces: []Namespace{{Name: "kept", Options: ChannelOptions{HistorySize: 100, HistoryTTL: time.Hour, MaxPublicationBytes: 100}}},
		Queue: Queue{Link: NATSLink{URLs: []string{address}}, NATSQueue: NATSQueue{Stream: "work", Subject: "work.a.*", Start: "all", DeadLetter: "dead.x"}},
	}
	s := startServer(t, config)
	c := dial(t, s.ws("/push?channels=kept:a,b"))
	next(t, c)
	put := func(header gonats.Header, data string) {
		t.Helper()
		if _, err := js.PublishMsg(t.Context(), &gonats.Msg{Subject: "work.a.x", Header: header, Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	put(nil, `{"channel":"kept:a","data":"one","tags":{"k":"v"}}`)
	put(nil, `{"channels":["kept:a","b","nowhere:c"],"users":["7"],"data":"two"}`) // of which one is refused
	put(gonats.Header{"Millpond-Channel": {"kept:a"}}, `"three"`)
	put(nil, `{"channel":"kept:a","data":"four","idempotency_key":"k"}`)
	request(t, "POST", s.internalURL("/api/publish"), `{"channel":"b","data":"by HTTP"}`)
	bad := []string{`{"channel":"kept:a"`, `{"channel":"kept:a"}`, `{"data":1}`, `[]`, `{"channels":[],"data":1}`, "\xff", `{"channel":"kept:a","data":"` + strings.Repeat("x", 200) + `"}`}
	for _, m := range bad {
		put(nil, m)
	}
	put(nil, `{"channel":"kept:a","data":"not again","idempotency_key":"k"}`)
	put(gonats.Header{"Nats-Msg-Id": {"k"}}, `{"channel":"kept:a","data":"not this either"}`)
	if _, err := js.Publish(t.Context(), "work.other", []byte(`{"channel":"kept:a","data":"not meant"}`)); err != nil {
		t.Fatal(err)
	}
	put(nil, `{"channel":"kept:a","data":"last"}`)
	came := map[string][]string{}
	for !slices.Contains(came["kept:a"], "last") || len(came["b"]) < 2 {
		var m struct{ Channel, Data string }
		if err := json.Unmarshal([]byte(next(t, c)), &m); err != nil {
			t.Fatal(err)
		}
		came[m.Channel] = append(came[m.Channel], m.Data)
	}
	slices.Sort(came["b"]) // in no order to what comes by HTTP
	want := map[string][]string{"kept:a": {"one", "two", "three", "four", "last"}, "b": {"by HTTP", "two"}}
	if !maps.EqualFunc(came, want, slices.Equal) {
		t.Errorf("%q, want %q", came, want)
	}
	dead, err := js.Stream(t.Context(), "dead")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "what is refused is kept", func() bool {
		info, err := dead.Info(t.Context())
		return err == nil && info.State.Msgs >= uint64(len(bad)+1)
	})
	var reasons []string
	for seq := range len(bad) + 1 {
		m, err := dead.GetMsg(t.Context(), uint64(seq)+1)
		if err != nil {
			t.Fatal(err)
		}
		reasons = append(reasons, m.Header.Get("Millpond-Error"))
	}
	for _, part := range []string{"channels[2]: ", "the body is not JSON", "the body is not valid UTF-8", "must be a JSON object", `"data" is missing`, `"channel" is missing`, `"channels" is missing`, "at most 100 are allowed"} {
		if !slices.ContainsFunc(reasons, func(reason string) bool { return strings.Contains(reason, part) }) {
			t.Errorf("%s is in none of %q", part, reasons)
		}
	}
	eventually(t, "all are done", func() bool { return s.queue.source.Stats().Pending == 0 })
	_, metrics := request(t, "GET", s.internalURL("/metrics"), "")
	for _, line := range []string{
		"millpond_queue_reading 1", `millpond_queue_received_total{delivery="first"} 14`, `millpond_queue_messages_total{result="published"} 6`,
		fmt.Sprintf(`millpond_queue_messages_total{result="refused"} %d`, len(bad)+1), "millpond_queue_dead_letters_total 8", "millpond_queue_malformed_total 6",
		`millpond_api_commands_total{code="0",key="queue",method="publish"} 6`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("there is no %s", line)
		}
	}
	if _, families := series(t, s); families["millpond_queue_lag_messages"] == nil {
		t.Error("the catalog has no lag")
	}
}

func TestQueueConfigNamesAll(t *testing.T) {
	link := NATSLink{URLs: []string{"nats://h:1"}}
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{Queue: Queue{Link: link}}, "queue-stream"},
		{Config{Queue: Queue{NATSQueue: NATSQueue{Stream: "s"}}}, "queue-url"},
		{Config{DataDir: "x", NATS: NATS{Embedded: true}, Queue: Queue{NATSQueue: NATSQueue{Stream: "s"}}}, "queue-url"},
		{Config{Queue: Queue{Link: NATSLink{URLs: []string{"nats://u:p@h:1"}}, NATSQueue: NATSQueue{Stream: "s"}}}, "queue-password-file"},
		{Config{Queue: Queue{Link: link, NATSQueue: NATSQueue{Stream: "s", MaxBytes: -1}}}, "queue-max-bytes"},
		{Config{Queue: Queue{Link: link, NATSQueue: NATSQueue{Stream: "s"}}}, ""},
		{Config{NATS: NATS{Link: link}, Queue: Queue{NATSQueue: NATSQueue{Stream: "s"}}}, ""},
		{Config{DataDir: "x", NATS: NATS{Embedded: true}, Queue: Queue{Link: link, NATSQueue: NATSQueue{Stream: "s"}}}, ""},
	} {
		c.config.Dev = true
		err := c.config.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q is not: %v", c.want, err)
		}
		if err != nil && strings.Contains(err.Error(), ":p@") {
			t.Errorf("a password is in: %v", err)
		}
	}
}
