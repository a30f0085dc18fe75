package handshake

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestUpgrade(t *testing.T) {
	c := testConfig()
	u := mustNew(t, c)
	for _, r := range requests {
		t.Run(r.name, func(t *testing.T) {
			resp, res, err := u.Upgrade([]byte("before"), []byte(r.in), somePeer)
			if !bytes.HasPrefix(resp, []byte("before")) {
				t.Fatalf("dst was not appended to: %q", resp)
			}
			got := checkResponse(t, r.in, resp[len("before"):], res, err)
			if got != r.status {
				t.Fatalf("status %d, want %d: %v", got, r.status, err)
			}
			if twin := naive(r.in, c); (twin == nil) != (r.status == 101) {
				t.Errorf("the twin says: %v", twin)
			}
			if err == nil {
				if res.Subprotocol != r.sub {
					t.Errorf("subprotocol %q, want %q", res.Subprotocol, r.sub)
				}
				return
			}
			var f *Fault
			if errors.As(err, &f); f.Kind != r.kind {
				t.Errorf("kind %q, want %q", f.Kind, r.kind)
			}
		})
	}
}

// checkResponse checks what is true of every response and returns its status.
func checkResponse(tb testing.TB, in string, resp []byte, res Result, err error) int {
	tb.Helper()
	method, _, _ := strings.Cut(in, " ")
	br := bufio.NewReader(bytes.NewReader(resp))
	r, readErr := http.ReadResponse(br, &http.Request{Method: method})
	if readErr != nil {
		tb.Fatalf("%v in %q", readErr, resp)
	}
	body, readErr := io.ReadAll(r.Body)
	if rest := br.Buffered(); readErr != nil || rest > 0 {
		tb.Fatalf("body %q, then %v and %d bytes more in %q", body, readErr, rest, resp)
	}
	if r.Proto != "HTTP/1.1" {
		tb.Errorf("%s in %q", r.Proto, resp)
	}
	if err == nil {
		checkAccepted(tb, r, res)
		return r.StatusCode
	}
	var f *Fault
	if !errors.As(err, &f) || res != (Result{}) {
		tb.Fatalf("refused with %T and the result %+v", err, res)
	}
	checkRefused(tb, r, method, string(body), f)
	return r.StatusCode
}

func checkAccepted(tb testing.TB, r *http.Response, res Result) {
	tb.Helper()
	if res.Route == nil {
		tb.Fatal("accepted without a route")
	}
	want := http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Accept": r.Header["Sec-Websocket-Accept"]}
	if res.Subprotocol != "" {
		want.Set("Sec-WebSocket-Protocol", res.Subprotocol)
		if !slices.Contains(res.Route.Subprotocols, res.Subprotocol) {
			tb.Errorf("subprotocol %q is not the route's", res.Subprotocol)
		}
	}
	if r.StatusCode != http.StatusSwitchingProtocols || len(r.Header.Get("Sec-WebSocket-Accept")) != 28 || !sameHeader(r.Header, want) {
		tb.Errorf("%s with %v, want %v", r.Status, r.Header, want)
	}
}

func sameHeader(a, b http.Header) bool {
	if len(a) != len(b) {
		return false
	}
	for name, v := range a {
		if !slices.Equal(v, b[name]) {
			return false
		}
	}
	return true
}

func checkRefused(tb testing.TB, r *http.Response, method, body string, f *Fault) {
	tb.Helper()
	if r.StatusCode != f.Status && f.Status != 0 || f.Kind == "" {
		tb.Errorf("%s for %+v", r.Status, f)
	}
	if want := f.reason() + "\n"; method != http.MethodHead && body != want || int(r.ContentLength) != len(want) {
		tb.Errorf("%d bytes of body, %q, want %q", r.ContentLength, body, want)
	}
	if !r.Close {
		tb.Error("the connection is not said to be closed")
	}
	if _, err := http.ParseTime(r.Header.Get("Date")); err != nil {
		tb.Error(err)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff",
	} {
		if got := r.Header[name]; len(got) != 1 || got[0] != want {
			tb.Errorf("%s: %q", name, got)
		}
	}
	for _, field := range f.Header {
		if got := r.Header.Get(field.Name); got != field.Value {
			tb.Errorf("%s: %q, want %q", field.Name, got, field.Value)
		}
	}
}

// RFC 6455 §1.3: the key dGhlIHNhbXBsZSBub25jZQ== is answered with
// s3pPLMBiTxaQ9kYGzzhZRbK+xOo=.
func TestUpgradeAnswersTheKeyOfTheRFC(t *testing.T) {
	u := mustNew(t, testConfig())
	resp, res, err := u.Upgrade(nil, []byte(plus("Sec-WebSocket-Protocol: two\r\n")), somePeer)
	want := "HTTP/1.1 101 Switching Protocols\r\n" +
		"Upgrade: websocket\r\n" +
		"Connection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" +
		"Sec-WebSocket-Protocol: two\r\n\r\n"
	if err != nil || string(resp) != want {
		t.Errorf("%v\n%s", err, resp)
	}
	if res.Route.Value != "the echo" || res.Route.Path != "/echo" || res.ClientAddr != somePeer.Addr() || res.Data != nil {
		t.Errorf("%+v", res)
	}
}

// The answers that carry a header of their own.
func TestUpgradeSaysWhatWouldWork(t *testing.T) {
	u := mustNew(t, testConfig())
	for _, c := range []struct {
		name, in, field, want string
	}{
		{"version", sub("Version: 13", "Version: 8"), "Sec-WebSocket-Version", "13"},
		{"version", sub("Version: 13", "Version: 8"), "Upgrade", "websocket"},
		{"version", sub("Version: 13", "Version: 8"), "Connection", "close, Upgrade"},
		{"no version", without("Sec-WebSocket-Version:"), "Sec-WebSocket-Version", "13"},
		{"no version", without("Sec-WebSocket-Version:"), "Connection", "close"},
		{"no upgrade", without("Upgrade:"), "Upgrade", "websocket"},
		{"method", sub("GET", "POST"), "Allow", "GET"},
		{"accept", sub("/echo", "/ask?user=bob"), "WWW-Authenticate", "Bearer"},
	} {
		resp, _, _ := u.Upgrade(nil, []byte(c.in), somePeer)
		if !bytes.Contains(resp, []byte("\r\n"+c.field+": "+c.want+"\r\n")) {
			t.Errorf("%s: no %s: %s in %s", c.name, c.field, c.want, resp)
		}
	}
}

func TestAcceptSeesTheRequest(t *testing.T) {
	var kept *Request
	var strs Request // what of it may be kept
	u := mustNew(t, Config{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Routes: []Route{{Path: "/a", Subprotocols: []string{"two"}, AllowedOrigins: []string{"*"}, Accept: func(r *Request) (any, error) {
			kept, strs = r, Request{Origin: r.Origin, Subprotocols: r.Subprotocols, RawQuery: r.RawQuery}
			for _, c := range [][2]string{
				{r.Path, "/a"},
				{r.RawQuery, "x=1&y=%20&x=2"},
				{strings.Join(r.Query()["x"], " "), "1 2"},
				{r.Query().Get("y"), " "},
				{r.Host, "example.com"},
				{r.Origin, "https://b.example"},
				{strings.Join(r.Subprotocols, " "), "one two three"},
				{r.Subprotocol, "two"},
				{r.ClientAddr.String(), "192.0.2.9"},
				{r.Header("cookie"), "a=b"},
				{r.Header("COOKIE"), "a=b"},
				{r.Header("X-Twice"), "first"},
				{r.Header("X-None"), ""},
				{strings.Join(r.Headers("x-twice"), ","), "first,second"},
				{strings.Join(r.Headers("X-None"), ","), ""},
				{r.Header(""), ""},
			} {
				if c[0] != c[1] {
					t.Errorf("%q, want %q", c[0], c[1])
				}
			}
			return 42, nil
		}}},
	})
	head := []byte(strings.Replace(plus(
		"Origin: https://b.example\r\n", "Cookie: a=b\r\n", "X-Twice: first\r\n", "X-Twice: second\r\n",
		"Sec-WebSocket-Protocol: one,,two\r\n", "X-Forwarded-For: 192.0.2.9\r\n", "Sec-WebSocket-Protocol: three\r\n",
	), "/echo", "/a?x=1&y=%20&x=2", 1))
	_, res, err := u.Upgrade(nil, head, netip.MustParseAddrPort("10.1.1.1:1"))
	if err != nil || res.Data != 42 || res.ClientAddr != netip.MustParseAddr("192.0.2.9") {
		t.Fatal(res, err)
	}
	if got := kept.Header("Cookie"); got != "" {
		t.Errorf("Header after Accept: %q", got)
	}
	// What was handed out is not the caller's buffer.
	clear(head)
	if strs.Origin != "https://b.example" || strs.Subprotocols[2] != "three" || strs.RawQuery != "x=1&y=%20&x=2" {
		t.Errorf("%+v has changed with the input", strs)
	}
}

func TestAcceptsErrorIsForTheLogAlone(t *testing.T) {
	u := mustNew(t, testConfig())
	resp, _, err := u.Upgrade(nil, []byte(sub("/echo", "/ask?user=mallory")), somePeer)
	if !errors.Is(err, errMallory) {
		t.Errorf("%v does not wrap the cause", err)
	}
	if strings.Contains(string(resp), errMallory.Error()) || strings.Contains(err.Error(), errMallory.Error()) {
		t.Errorf("the client may see: %s", resp)
	}
}

// A response holds nothing of its request: what a client sends must not come back
// as a header or a page of the server's.
func TestNoResponseEchoesTheRequest(t *testing.T) {
	u := mustNew(t, testConfig())
	for _, r := range requests {
		in := strings.NewReplacer("echo", "ECHOED", "example.com", "ECHOED.example", "Connection: ", "Connection: ECHOED, ",
			"one", "ECHOED").Replace(r.in)
		resp, _, _ := u.Upgrade(nil, []byte(in), somePeer)
		if bytes.Contains(bytes.ToUpper(resp), []byte("ECHOED")) {
			t.Errorf("%s: %s", r.name, resp)
		}
	}
}

func TestMaxHeaderBytes(t *testing.T) {
	c := testConfig()
	c.MaxHeaderBytes = 300
	u := mustNew(t, c)
	if u.MaxHeaderBytes() != 300 || mustNew(t, Config{}).MaxHeaderBytes() != 8<<10 {
		t.Error("MaxHeaderBytes")
	}
	pad := func(n int) []byte {
		empty := len(plus("X: \r\n"))
		return []byte(plus("X: " + strings.Repeat("x", n-empty) + "\r\n"))
	}
	if _, _, err := u.Upgrade(nil, pad(300), somePeer); err != nil {
		t.Errorf("300 bytes: %v", err)
	}
	if _, _, err := u.Upgrade(nil, pad(301), somePeer); !errors.Is(err, ErrHeaderTooLarge) {
		t.Errorf("301 bytes: %v", err)
	}
}

func TestUpgradeInManyGoroutines(t *testing.T) {
	u := mustNew(t, testConfig())
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 4 * len(requests) {
				r := requests[(i*(g+1)+g)%len(requests)]
				_, res, err := u.Upgrade(nil, []byte(r.in), somePeer)
				if (err == nil) != (r.status == 101) || res.Subprotocol != r.sub {
					t.Errorf("%s: %+v, %v", r.name, res, err)
				}
			}
		})
	}
	wg.Wait()
}

// After a panic of Accept the Upgrader works on.
func TestPanicOfAcceptPasses(t *testing.T) {
	u := mustNew(t, Config{Routes: []Route{{Path: "/echo", Accept: func(*Request) (any, error) { panic("ours") }}}})
	for range 3 {
		func() {
			defer func() {
				if recover() != "ours" {
					t.Error("no panic")
				}
			}()
			_, _, _ = u.Upgrade(nil, []byte(valid), somePeer)
		}()
	}
	if _, _, err := u.Upgrade(nil, []byte(sub("GET", "PUT")), somePeer); !errors.Is(err, ErrMethod) {
		t.Error(err)
	}
}
