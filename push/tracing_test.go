package push

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// otlpReceiver is one of OTLP over HTTP.
type otlpReceiver struct {
	*httptest.Server
	mu       sync.Mutex
	spans    []*spans.Span
	services map[string]bool // what resources say
}

func startReceiver(t *testing.T) *otlpReceiver {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10") // ms
	r := &otlpReceiver{services: map[string]bool{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		var message otlp.ExportTraceServiceRequest
		body, err := io.ReadAll(q.Body)
		if err != nil || q.URL.Path != "/v1/traces" || proto.Unmarshal(body, &message) != nil {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, from := range message.ResourceSpans {
			for _, a := range from.Resource.Attributes {
				r.services[a.Key+"="+a.Value.GetStringValue()] = true
			}
			for _, scope := range from.ScopeSpans {
				r.spans = append(r.spans, scope.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(r.Close)
	return r
}

// chain waits for spans of these names, each the child of the one before, and returns them.
func (r *otlpReceiver) chain(t *testing.T, names ...string) (chain []*spans.Span) {
	t.Helper()
	find := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		chain = nil
		for _, name := range names {
			for _, s := range r.spans {
				if n := len(chain); s.Name == name && (n == 0 || string(s.ParentSpanId) == string(chain[n-1].SpanId) && string(s.TraceId) == string(chain[n-1].TraceId)) {
					chain = append(chain, s)
					break
				}
			}
		}
		return len(chain) == len(names)
	}
	eventually(t, fmt.Sprint("spans ", names), find)
	return chain
}

func attribute(s *spans.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

const callersTrace, callersSpan = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

// What a caller of the API has begun goes on to the last subscriber.
func TestTraceOfAnAPICall(t *testing.T) {
	r := startReceiver(t)
	s := startServer(t, Config{TokenSecret: secret, AllowAnonymous: true, APIKeys: []string{"a-secret-key"}, Trace: Trace{Endpoint: r.URL}, Version: "v7"})
	signed := token(t, map[string]any{"channels": []string{"news"}})
	c := dial(t, s.ws("/push?channels=news&token="+signed))
	next(t, c)
	request(t, "POST", s.internalURL("/api/publish"), `{"channel":"news","data":"secret data"}`,
		"X-API-Key", "a-secret-key", "X-Request-Id", "r1", "traceparent", "00-"+callersTrace+"-"+callersSpan+"-01")
	next(t, c)
	chain := r.chain(t, "api publish", "publish", "fan-out")
	if call := chain[0]; hex.EncodeToString(call.TraceId) != callersTrace || hex.EncodeToString(call.ParentSpanId) != callersSpan ||
		call.Kind != spans.Span_SPAN_KIND_SERVER || attribute(call, "millpond.api.key") != "key1" || attribute(call, "millpond.api.request") != "r1" {
		t.Errorf("%v", call)
	}
	for _, span := range chain[1:] {
		if attribute(span, "messaging.destination.name") != "news" || span.EndTimeUnixNano < span.StartTimeUnixNano {
			t.Errorf("%v", span)
		}
	}
	// One that is refused, and one that nobody has.
	request(t, "POST", s.internalURL("/api/publish"), `{"channel":"","data":1}`, "X-API-Key", "a-secret-key")
	request(t, "POST", s.internalURL("/api/publish"), `{"channel":"nobody's","data":1}`, "X-API-Key", "a-secret-key", "traceparent", "00-"+strings.Repeat("1", 32)+"-"+callersSpan+"-01")
	eventually(t, "both", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		failed, nobodys := false, false
		for _, span := range r.spans {
			failed = failed || span.Name == "api publish" && span.Status.GetCode() == spans.Status_STATUS_CODE_ERROR
			nobodys = nobodys || span.Name == "fan-out" && attribute(span, "messaging.destination.name") == "nobody's"
		}
		return failed && nobodys
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if all := fmt.Sprint(r.spans, r.services); strings.Contains(all, "secret") || !r.services["service.name=millpond"] || !r.services["service.version=v7"] {
		t.Error(all)
	}
}

// A client's publication that a webhook decides on is followed from the webhook, which is told the trace.
func TestTraceOfAWebhook(t *testing.T) {
	r := startReceiver(t)
	told := make(chan string, 1)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		told <- q.Header.Get("traceparent")
		fmt.Fprint(w, `{"result":{}}`)
	}))
	t.Cleanup(backend.Close)
	s := startServer(t, Config{
		TokenSecret: secret, AllowAnonymous: true, Trace: Trace{Endpoint: r.URL},
		Channels: ChannelOptions{AllowSubscribeForClient: true, AllowSubscribeForAnonymous: true, PublishWebhook: "backend"},
		Webhooks: Webhooks{Endpoints: []Webhook{{Name: "backend", Endpoint: backend.URL}}},
	})
	c := dial(t, s.ws("/push?channels=a&token="+token(t, map[string]any{"sub": "ann"})))
	next(t, c)
	send(t, c, `{"type":"publish","id":1,"payload":{"channel":"a","data":1}}`)
	if both := next(t, c) + next(t, c); !strings.Contains(both, `"message"`) {
		t.Fatal(both)
	}
	chain := r.chain(t, "webhook publish", "publish", "fan-out")
	if got, want := <-told, fmt.Sprintf("00-%x-%x-01", chain[0].TraceId, chain[0].SpanId); got != want {
		t.Errorf("the backend was told %q, want %q", got, want)
	}
	if attribute(chain[0], "millpond.webhook.outcome") != "ok" || chain[0].Kind != spans.Span_SPAN_KIND_CLIENT {
		t.Error(chain[0])
	}
}

// Traces that nobody keeps have no spans; nor has a server without an endpoint.
func TestTraceIsSampled(t *testing.T) {
	r := startReceiver(t)
	none := 0.0
	s := startServer(t, Config{Dev: true, Trace: Trace{Endpoint: r.URL, Sample: &none}})
	for range 50 {
		request(t, "POST", s.internalURL("/api/publish"), `{"channel":"a","data":1}`)
		request(t, "POST", s.internalURL("/api/publish"), `{"channel":"a","data":1}`, "traceparent", "00-"+callersTrace+"-"+callersSpan+"-00")
	}
	if st := s.tracer.Stats(); st.Ended != 0 {
		t.Errorf("%+v", st)
	}
	request(t, "POST", s.internalURL("/api/publish"), `{"channel":"a","data":1}`, "traceparent", "00-"+callersTrace+"-"+callersSpan+"-01")
	r.chain(t, "api publish", "publish", "fan-out")

	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", r.URL)
	for _, c := range []struct {
		trace       Trace
		name, value string
		want        bool
	}{
		{Trace{}, "", "", false},
		{Trace{Environment: true}, "", "", true},
		{Trace{Environment: true}, "OTEL_SDK_DISABLED", "true", false},
		{Trace{Environment: true}, "OTEL_TRACES_EXPORTER", "none", false},
	} {
		if c.name != "" {
			t.Setenv(c.name, c.value)
		}
		if s := startServer(t, Config{Dev: true, Trace: c.trace}); (s.tracer != nil) != c.want {
			t.Errorf("%+v: %v", c, s.tracer)
		}
		if c.name != "" {
			os.Unsetenv(c.name)
		}
	}
	some := 2.0
	for _, endpoint := range []string{"collector:4318", "ftp://collector:4318", "http://", "http://[::1"} {
		if err := (Config{Dev: true, Trace: Trace{Endpoint: endpoint, Sample: &some}}).Validate(); err == nil || strings.Count(err.Error(), "trace-") != 2 {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

// A receiver that never answers holds up nobody, and what waits for it is bounded.
func TestTraceReceiverIsAway(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000") // ms: nobody but Close gives up
	release, asked, given := make(chan struct{}), make(chan struct{}, 1000), make(chan struct{}, 1000)
	deaf := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		asked <- struct{}{}
		select {
		case <-release:
		case <-q.Context().Done():
			given <- struct{}{}
		}
	}))
	t.Cleanup(deaf.Close)
	t.Cleanup(func() { close(release) })
	s := startServer(t, Config{Dev: true, Trace: Trace{Endpoint: deaf.URL}})
	for range 300 { // two spans each, and a third for the fan-out
		if status, _ := request(t, "POST", s.internalURL("/api/publish"), `{"channel":"a","data":1}`); status != 200 {
			t.Fatal(status)
		}
	}
	if st := s.tracer.Stats(); st.Ended != 900 || st.Exported != 0 {
		t.Errorf("%+v", st)
	}
	await := func(what string, happened <-chan struct{}) {
		t.Helper()
		select {
		case <-happened:
		case <-time.After(time.Minute):
			t.Fatal("never: " + what)
		}
	}
	await("the receiver is asked", asked)
	closed := make(chan struct{})
	go func() { _ = s.tracer.Close(context.Background()); close(closed) }()
	await("Close gives up", closed)
	await("the receiver is told so", given)
}

// On NATS a trace goes on to the subscribers of every node, by a channel with history and by one without.
func TestTraceOnNATS(t *testing.T) {
	r := startReceiver(t)
	address, _ := startStreams(t)
	node := func() *Server {
		return startServer(t, Config{
			Dev: true, Trace: Trace{Endpoint: r.URL}, NATS: NATS{Link: NATSLink{URLs: []string{address}}, Broker: NATSBroker{Groups: 2}},
			Namespaces: []Namespace{{Name: "kept", Options: ChannelOptions{HistorySize: 10, HistoryTTL: time.Hour}}, {Name: "live"}},
		})
	}
	a, b := node(), node()
	for i, channel := range []string{"kept:c", "live:c"} {
		for _, s := range []*Server{a, b} {
			next(t, dial(t, s.ws("/push?channels="+channel)))
		}
		id := strings.Repeat(fmt.Sprint(i+1), 32)
		request(t, "POST", a.internalURL("/api/publish"), fmt.Sprintf(`{"channel":%q,"data":1}`, channel), "traceparent", "00-"+id+"-"+callersSpan+"-01")
		eventually(t, channel+": two nodes hand it over", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			published, handed := "", 0
			for _, span := range r.spans {
				if hex.EncodeToString(span.TraceId) == id && span.Name == "publish" {
					published = string(span.SpanId)
				}
			}
			for _, span := range r.spans {
				if span.Name == "fan-out" && string(span.ParentSpanId) == published && attribute(span, "messaging.destination.name") == channel {
					handed++
				}
			}
			return handed == 2
		})
	}
}
