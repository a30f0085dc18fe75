package bench

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

// server is an echo by another library; tamper may change what it sends back.
func server(t *testing.T, tamper func(n int, b []byte) [][]byte) Target {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		for n := 0; ; n++ {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			out := [][]byte{b}
			if tamper != nil {
				out = tamper(n, b)
			}
			for _, b := range out {
				if c.Write(r.Context(), kind, b) != nil {
					return
				}
			}
		}
	}))
	t.Cleanup(s.Close)
	return Target{URL: "ws" + strings.TrimPrefix(s.URL, "http") + "/", PID: os.Getpid()}
}

func TestIdle(t *testing.T) {
	r, err := Idle(t.Context(), IdleConfig{Target: server(t, nil), Connections: 50, Hold: 10 * time.Millisecond, Settle: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rounds) != 1 || r.Rounds[0].Open != 50 || r.Failed() != 0 || r.Base == 0 {
		t.Errorf("%+v", r)
	}
	if !strings.Contains(r.String(), "50 open") {
		t.Error(r.String())
	}
}

func TestEcho(t *testing.T) {
	for _, depth := range []int{1, 16} {
		r, err := Echo(t.Context(), EchoConfig{
			Target: server(t, nil), Connections: 4, Depth: depth, Duration: 300 * time.Millisecond, WarmUp: 10 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		if r.Messages == 0 || len(r.Failures) > 0 || r.P50 == 0 || r.P99 < r.P50 || r.Max < r.P99 {
			t.Errorf("%+v", r)
		}
	}
}

// A server that does not do what it must is reported, whatever it does.
func TestLyingServers(t *testing.T) {
	for name, tt := range map[string]struct {
		tamper func(n int, b []byte) [][]byte
		path   string
		want   string
	}{
		"changes a byte": {func(n int, b []byte) [][]byte {
			if n == 3 {
				b[len(b)/2]++
			}
			return [][]byte{b}
		}, "", errContent.Error()},
		"doubles": {func(_ int, b []byte) [][]byte { return [][]byte{b, b, b} }, "", errContent.Error()},
		"swaps": {func() func(n int, b []byte) [][]byte {
			var held []byte
			return func(n int, b []byte) [][]byte {
				if n%2 == 0 {
					held = b
					return nil
				}
				return [][]byte{b, held}
			}
		}(), "", errContent.Error()},
		"greets": {func(n int, b []byte) [][]byte {
			if n == 1 {
				return [][]byte{b, []byte("and this")}
			}
			return [][]byte{b}
		}, "", errContent.Error()},
		"cuts":    {func(_ int, b []byte) [][]byte { return [][]byte{b[1:]} }, "", errContent.Error()},
		"refuses": {nil, "refused", errHandshake.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			target := server(t, tt.tamper)
			target.URL += tt.path
			r, err := Echo(t.Context(), EchoConfig{
				Target: target, Connections: 1, Depth: 2, Duration: 200 * time.Millisecond, WarmUp: time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for what := range r.Failures {
				found = found || strings.Contains(what, tt.want)
			}
			if !found {
				t.Errorf("failures %v, want %q", r.Failures, tt.want)
			}
		})
	}
}

// A server that loses messages leaves its clients waiting, and the run ends all the same.
func TestServerThatDrops(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	target := server(t, func(int, []byte) [][]byte { return nil })
	if _, err := Idle(ctx, IdleConfig{Target: target, Connections: 2}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestTarget(t *testing.T) {
	for url, ok := range map[string]bool{
		"ws://127.0.0.1:80/": true, "ws://localhost:80/x?y=1": true, "wss://127.0.0.1:443/": true,
		"http://127.0.0.1:80/": false, "ws://127.0.0.1/": false, "": false, "ws://127.0.0.1:99999/": false,
	} {
		if _, _, _, err := (Target{URL: url}).resolve(t.Context()); (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestListeningLine(t *testing.T) {
	for _, line := range []string{
		`time=x level=INFO msg=listening listener=public address=127.0.0.1:1234`,
		`{"level":"INFO","msg":"listening","listener":"public","address":"127.0.0.1:1234"}`,
	} {
		if m := listening.FindStringSubmatch(line); m == nil || m[1] != "public" || m[2] != "127.0.0.1:1234" {
			t.Errorf("%s: %q", line, m)
		}
	}
}

func TestStall(t *testing.T) {
	r, err := Stall(t.Context(), StallConfig{Target: server(t, nil), Connections: 20, Stalled: 2, Rate: 500, Pairs: 2, Phase: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.With) != 2 || len(r.Without) != 2 || len(r.Failures) > 0 || r.Ratio == 0 {
		t.Errorf("%+v", r)
	}
	for _, p := range append(r.With, r.Without...) {
		if p.Messages == 0 || p.P50 == 0 || p.P99 < p.P50 || p.Max < p.P99 {
			t.Errorf("%+v", p)
		}
	}
	if !strings.Contains(r.String(), "median of 2 pairs") {
		t.Error(r.String())
	}
	if _, err := Stall(t.Context(), StallConfig{Target: server(t, nil), Connections: 5, Stalled: 5}); err == nil {
		t.Error("all may stall")
	}
}
