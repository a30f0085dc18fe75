package tracing

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Without a tracer nothing is done, and for a publication that nobody follows next to nothing.
func TestOffCostsNothing(t *testing.T) {
	none, err := New(Config{})
	if none != nil || err != nil {
		t.Fatal(none, err)
	}
	r := httptest.NewRequest("POST", "/", nil)
	if n := testing.AllocsPerRun(100, func() {
		same, span := none.Server(r, "a")
		ctx, other := none.Client(t.Context(), "b")
		none.Inject(ctx, same.Header)
		span.Name("c")
		span.Set("d", "e")
		span.End(nil)
		other.End(context.Canceled)
		if same != r || span.Trace() != nil || none.Stats() != (Stats{}) {
			t.Fatal("it does something")
		}
	}); n != 0 {
		t.Errorf("off, there are %v allocations", n)
	}
	if err := none.Close(t.Context()); err != nil {
		t.Error(err)
	}

	on, err := New(Config{Endpoint: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer on.Close(t.Context())
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() {
		if published, delivered, carrier := on.Follow(ctx, (*Trace)(nil), "channel"); published != nil || delivered != nil || carrier != "" {
			t.Fatal("it is followed")
		}
	}); n != 0 {
		t.Errorf("for a publication that nobody follows there are %v allocations", n)
	}
}

// Names that strangers made up, which need not be UTF-8, cost no spans of others: OTLP takes nothing else, and a receiver not all lengths.
func TestStrangeNames(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10") // ms
	var mu sync.Mutex
	var got []byte
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		b, _ := io.ReadAll(r.Body)
		got = append(got, b...)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer receiver.Close()
	tracer, err := New(Config{Endpoint: receiver.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer tracer.Close(t.Context())
	ctx, root := tracer.Client(t.Context(), "root")
	published, delivered, _ := tracer.Follow(ctx, (*Trace)(nil), "strange\xff\xfe")
	published(errors.New("no such channel: \xff" + strings.Repeat("x", 10_000)))
	delivered()
	root.Set("key", "\xff")
	root.End(nil)
	for deadline := time.Now().Add(30 * time.Second); tracer.Stats().Exported+tracer.Stats().Failed < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", tracer.Stats())
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if st := tracer.Stats(); st.Exported != 3 || !bytes.Contains(got, []byte("strange\uFFFD")) || len(got) > 6000 {
		t.Errorf("%+v, %d bytes", st, len(got))
	}
}
