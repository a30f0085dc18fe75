package tracing

import (
	"context"
	"net/http/httptest"
	"testing"

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
