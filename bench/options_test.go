package bench

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// What makes no sense is said, by the flag's name, before anything is started.
func TestOptionsThatMakeNoSense(t *testing.T) {
	for _, tt := range []struct {
		scenario Scenario
		change   func(o *Options)
		want     string
	}{
		{Idle{}, func(o *Options) { o.Rate = 1 }, "--rate: bench idle has no use for it"},
		{Idle{}, func(o *Options) { o.Compare, o.Warmup = 1, 1 }, "--warmup: bench idle has no use for it\n--compare"},
		{Idle{}, func(o *Options) { o.Protocol, o.Size = ProtocolPlain, 10 }, "--size: "},
		{Idle{Rounds: -1}, func(*Options) {}, "--rounds -1"},
		{Echo{}, func(o *Options) { o.Protocol = ProtocolPlain }, "--protocol plain: bench echo takes echo, raw"},
		{Echo{}, func(o *Options) { o.Protocol = ProtocolRaw }, "--raw-message: "},
		{Echo{Depth: 2}, func(o *Options) { o.Rate = 10 }, "--depth, --rate"},
		{Echo{NoBare: true}, func(o *Options) { o.Compare = 1 }, "--compare, --no-bare"},
		{Fanout{NoBare: true}, func(o *Options) { o.Compare = 1 }, "--compare, --no-bare"},
		{Echo{}, func(o *Options) { o.Connections = -1 }, "--connections -1"},
		{Echo{}, func(o *Options) { o.Processes, o.Connections = 5, 4 }, "--processes 5"},
		{Echo{}, func(o *Options) { o.Rate = -1 }, "--rate -1"},
		{Echo{}, func(o *Options) { o.ConnectRate, o.Ramp = 1, 1 }, "--connect-rate, --ramp"},
		{Echo{}, func(o *Options) { o.Duration = -time.Second }, "--duration -1s"},
		{Echo{}, func(o *Options) { o.Size = 1 << 30 }, "--size 1073741824"},
		{Echo{}, func(o *Options) { o.Headers = []string{"a"} }, "--header: want NAME: VALUE"},
		{Echo{}, func(o *Options) { o.Headers = []string{"A: b\r\nC: d"} }, "--header: want NAME: VALUE"},
		{Echo{}, func(o *Options) { o.Headers = []string{"upgrade: h2c"} }, "--header upgrade"},
		{Echo{}, func(o *Options) { o.Origin = "a\r\n" }, "--subprotocol, --origin"},
		{Echo{}, func(o *Options) { o.Tokens, o.TokenSecret = []string{"a"}, []byte("b") }, "--token, --token-file"},
		{Echo{}, func(o *Options) { o.Raw.Open = "a" }, "--raw-…"},
		{Slow{Stalled: 100}, func(*Options) {}, "--stalled 100"},
		{Connect{MaxConnections: 1}, func(o *Options) { o.Target.URL = "ws://127.0.0.1:1/" }, "--max-connections"},
		{Connect{}, func(o *Options) { o.Protocol, o.Rate = ProtocolPlain, 5 }, "--established, --rate"},
		{Handshakes{}, func(o *Options) { o.Target.URL = "wss://127.0.0.1:1/" }, "--url: "},
	} {
		o := Options{Connections: 10}
		tt.change(&o)
		r, err := Measure(t.Context(), tt.scenario, o, Stage{})
		if r != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.scenario.Name(), err, tt.want)
		}
	}
}

// Many connections leave from several addresses, each with fewer than a port range has; what can't be is said at once.
func TestSources(t *testing.T) {
	perOne := localPorts()
	for _, tt := range []struct {
		url         string
		connections int
		sources     []string
		want        map[int]string // of connection n
		err         string
	}{
		{"ws://127.0.0.1:1/", perOne, nil, map[int]string{0: "", perOne - 1: ""}, ""},
		{"ws://127.0.0.1:1/", 300 * perOne, nil, map[int]string{0: "127.0.0.1", perOne: "127.0.0.2", 256 * perOne: "127.0.1.1"}, ""},
		{"ws://127.0.0.1:1/", perOne + 1, []string{"127.0.0.9", "127.0.0.8"}, map[int]string{0: "127.0.0.9", perOne: "127.0.0.8"}, ""},
		{"ws://127.0.0.1:1/", perOne + 1, []string{"127.0.0.9"}, nil, "--source: 1 addresses"},
		{"ws://127.0.0.1:1/", 1, []string{"::1"}, nil, "--source ::1"},
		{"ws://10.0.0.1:1/", perOne + 1, nil, nil, "give more with --source"},
		{"ws://[::1]:1/", perOne + 1, nil, nil, "give more with --source"},
	} {
		o := Options{Protocol: ProtocolEcho}
		for _, s := range tt.sources {
			o.Sources = append(o.Sources, netip.MustParseAddr(s))
		}
		l, err := newLocal(t.Context(), plan{Job: "load", Target: Target{URL: tt.url}, Connections: 1, First: tt.connections - 1, Options: o, Config: []byte("{}")})
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v, want %s", tt.url, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		for n, want := range tt.want {
			got := l.part.fleet.source(n)
			if want == "" && got.IsValid() || want != "" && got.Addr().String() != want {
				t.Errorf("%s: connection %d from %v, want %q", tt.url, n, got, want)
			}
		}
		_ = l.close()
	}
}

// A token goes where the protocol has it.
func TestTokens(t *testing.T) {
	for name, tt := range map[string]struct {
		o             Options
		request, open string // regular expressions would hide too much: parts
	}{
		"echo":         {Options{Protocol: ProtocolEcho, Tokens: []string{"aa", "bb"}}, "\r\nAuthorization: Bearer bb\r\n", ""},
		"plain":        {Options{Protocol: ProtocolPlain, Tokens: []string{"aa", "bb"}}, "GET /x?token=bb HTTP/1.1\r\n", ""},
		"centrifuge":   {Options{Protocol: ProtocolJSON, Tokens: []string{"aa", "bb"}}, "GET /x HTTP/1.1\r\n", `"token":"bb"`},
		"in a header":  {Options{Protocol: ProtocolEcho, Tokens: []string{"aa", "bb"}, Headers: []string{"Cookie: t={token}"}}, "\r\nCookie: t=bb\r\n", ""},
		"raw, opening": {Options{Protocol: ProtocolRaw, Tokens: []string{"aa", "bb"}, Raw: Raw{Open: "login {token}"}}, "", "login bb"},
		"host":         {Options{Protocol: ProtocolEcho, Headers: []string{"host: other"}}, "\r\nHost: other\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Target{URL: "ws://127.0.0.1:1/x"}.newDialect(t.Context(), nil, &tt.o)
			if err != nil {
				t.Fatal(err)
			}
			request, err1 := d.opener(3)
			open, err2 := d.greeting(3)
			for i := 6; i < len(open); i++ { // the mask is known
				open[i] ^= open[2+(i-6)%4]
			}
			if err1 != nil || err2 != nil || !strings.Contains(string(request), tt.request) || !strings.Contains(string(open), tt.open) {
				t.Errorf("%q, %q, %v, %v", request, open, err1, err2)
			}
			if strings.Count(string(request), "bb") > 1 || strings.Count(strings.ToLower(string(request)), "\r\nhost:") != 1 {
				t.Errorf("%q", request)
			}
		})
	}
	token, err := tokens{secret: []byte("secret")}.of(7)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{}
	_, err = jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return []byte("secret"), nil }, jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired())
	if sub, _ := claims.GetSubject(); err != nil || sub != "bench-7" {
		t.Errorf("%v, %v", claims, err)
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"serve --listen :8000 --token-hmac-secret-file /a":    "serve --listen :8000 --token-hmac-secret-file /a",
		"serve --token abc --api-key=def --pid 1":             "serve --token *** --api-key=*** --pid 1",
		"serve --secret --password x --nats-url=nats://u:p@h": "serve --secret *** *** --nats-url=nats://***@h",
		"bench --url ws://h/push?token=a --header A:b":        "bench --url ws://h/push?*** --header ***",
		"bench --raw-open login:me --source 127.0.0.1":        "bench --raw-open *** --source 127.0.0.1",
		"serve --tls-key=/k http://user:word@host:80/a":       "serve --tls-key=/k http://***@host:80/a",
	} {
		if got := strings.Join(Redact(strings.Fields(in)), " "); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

// What a slow server delays counts: latencies are from when a message was due, also of those that could not be sent at
// all.
func TestPaceHidesNothing(t *testing.T) {
	const pause = 500 * time.Millisecond
	target := server(t, func(n int, b []byte) [][]byte {
		if n == 3 {
			time.Sleep(pause) // the server's: what is measured
		}
		return [][]byte{b}
	})
	r, err := measure(t, Echo{NoBare: true}, Options{Target: target, Connections: 1, Rate: 50, Duration: time.Second, Warmup: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Latencies[0].Count(); n != 50 {
		t.Errorf("%d latencies", n)
	}
	// Of the 50 messages some 25 were due while the one connection waited: half of the pause on average, not one value of
	// it.
	if p75 := r.Latencies[0].Quantile(0.75); p75 < int64(pause/10) {
		t.Errorf("p75 %v", time.Duration(p75))
	}
	stuck := server(t, func(n int, b []byte) [][]byte { return [][]byte{b}[:max(1-n, 0)] })
	r, _ = measure(t, Echo{NoBare: true}, Options{Target: stuck, Connections: 1, Rate: 100, Duration: 300 * time.Millisecond, Warmup: time.Nanosecond, Timeout: 300 * time.Millisecond})
	if n := r.Latencies[0].Count(); n != 29 || !slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.HasPrefix(w, "29 messages that were due") }) {
		t.Errorf("%d latencies of those that could not be sent: %v", n, r.Warnings)
	}
}

// A run that is ended says what it has found.
func TestCutShort(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	target := server(t, func(n int, b []byte) [][]byte {
		if n == 200 {
			cancel()
		}
		return [][]byte{b}
	})
	r, err := Measure(ctx, Echo{NoBare: true}, Options{Target: target, Connections: 2, Duration: time.Hour, Warmup: time.Nanosecond}, Stage{})
	if !errors.Is(err, ErrCut) || r == nil || !r.Cut || r.Duration > time.Minute || figure(t, r, "messages/s") == 0 || len(r.Errors) > 0 {
		t.Errorf("%v: errors %v, cut %v after %v", err, r.Errors, r.Cut, r.Duration)
	}
}

// A server that cannot be measured beside the yardstick is measured without, and the report says why; who asks for it
// is told so.
func TestNoYardstick(t *testing.T) {
	target := server(t, nil)
	pid := target.PID
	for name, tt := range map[string]struct {
		change func(o *Options)
		want   string
	}{
		"whose CPU is not known": {func(o *Options) { o.Target.PID = 0 }, "--pid or --metrics must be known"},
		"of another protocol": {
			func(o *Options) { o.Protocol, o.Raw.Message, o.Target.PID = ProtocolRaw, "a", pid }, "the bare loop speaks --protocol echo",
		},
	} {
		for _, compare := range []int{0, 2} {
			o := Options{Target: target, Connections: 1, Duration: 20 * time.Millisecond, Warmup: time.Millisecond, Compare: compare}
			tt.change(&o)
			r, err := measure(t, Echo{}, o)
			switch f, _ := r.Figure("x-of-bare"); {
			case compare == 0 && (err != nil || !strings.Contains(f.Missing, tt.want) || figure(t, r, "messages/s") == 0):
				t.Errorf("%s: %v, %+v", name, err, f)
			case compare > 0 && (err == nil || !strings.Contains(err.Error(), "--compare: ") || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for url, want := range map[string]string{
		"ws://127.0.0.1:1/": "", "ws://[::1]:1/": "", "ws://127.0.0.2:1/": "", "ws://192.0.2.1:1/": "192.0.2.1", "wss://127.0.0.1:1/": "TLS",
	} {
		r := Run{Target: Target{URL: url, PID: 1}, Options: Options{Connections: 10}}
		if why := r.noYardstick(t.Context()); want == "" && why != "" || !strings.Contains(why, want) {
			t.Errorf("%s: %q", url, why)
		}
	}
	r := Run{Target: Target{URL: "ws://127.0.0.1:1/", Metrics: "http://127.0.0.1:1/"}, Options: Options{Connections: maxConnections}}
	if why := r.noYardstick(t.Context()); !strings.Contains(why, "ulimit") {
		t.Errorf("%d connections: %q", maxConnections, why)
	}
}

// Who names a path of millpond's speaks what is spoken there.
func TestProtocolOfTheURL(t *testing.T) {
	for _, tt := range []struct {
		url         string
		protocol    Protocol
		subprotocol string
		want        Protocol
	}{
		{"", "", "", ProtocolEcho},
		{"ws://h:1", "", "", ProtocolEcho},
		{"ws://h:1/elsewhere", "", "", ProtocolEcho},
		{"ws://h:1/echo", "", "", ProtocolEcho},
		{"ws://h:1/push?channels=a", "", "", ProtocolPlain},
		{"ws://h:1/connection/websocket", "", "", ProtocolJSON},
		{"ws://h:1/connection/websocket", "", "centrifuge-protobuf", ProtocolProtobuf},
		{"ws://h:1/push", ProtocolRaw, "", ProtocolRaw},
	} {
		o := Options{Target: Target{URL: tt.url}, Protocol: tt.protocol, Subprotocol: tt.subprotocol}
		if err := (Idle{}).Prepare(&o); err != nil || o.Protocol != tt.want {
			t.Errorf("%+v: %s, %v", tt, o.Protocol, err)
		}
	}
}
