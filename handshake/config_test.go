package handshake

import (
	"net/netip"
	"strings"
	"testing"
)

func TestValidateReportsEveryProblem(t *testing.T) {
	c := Config{
		Routes: []Route{
			{Path: "/ok", Subprotocols: []string{"a", "b"}, AllowedOrigins: []string{"*", "null", "*.example.com", "https://*.example.com:*"}},
			{Path: "/ok"},
			{Path: "no-slash"},
			{Path: ""},
			{Path: "/a?b"},
			{Path: "/a b"},
			{Path: "/é"},
			{Path: "http://a/b"},
			{Path: "/p", Subprotocols: []string{"a b", "", "c", "c"}},
			{Path: "/o", AllowedOrigins: []string{"", "[", "https://example.com/", "a/b", "://a"}},
		},
		TrustedProxies:  []netip.Prefix{{}, netip.MustParsePrefix("::ffff:10.0.0.0/104")},
		ForwardedHeader: "X-Client",
		MaxHeaderBytes:  -1,
	}
	err := c.Validate()
	if err == nil {
		t.Fatal("no problem found")
	}
	if _, newErr := New(c); newErr == nil || newErr.Error() != err.Error() {
		t.Errorf("New says %v", newErr)
	}
	for _, want := range []string{
		`route "/ok": the path is taken`,
		`route "no-slash": a path`, `route "": a path`, `route "/a?b": a path`, `route "/a b": a path`,
		`route "/é": a path`, `route "http://a/b": a path`,
		`route "/p": subprotocol "a b" is no token`, `route "/p": subprotocol "" is no token`,
		`route "/p": subprotocol "c" is listed twice`,
		`route "/o": allowed-origins: "" is empty`, `route "/o": allowed-origins: "[": syntax`,
		`route "/o": allowed-origins: "https://example.com/": an origin has no path`,
		`route "/o": allowed-origins: "a/b": an origin has no path`, `route "/o": allowed-origins: "://a"`,
		`trusted-proxies: invalid Prefix`, `trusted-proxies: ::ffff:10.0.0.0/104`,
		`forwarded-header: "X-Client"`, `max-header-bytes: -1 `,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s", want)
		}
	}
	if n, want := strings.Count(err.Error(), "\n")+1, 19; n != want {
		t.Errorf("%d problems, want %d:\n%v", n, want, err)
	}
}

func TestZeroConfigWorks(t *testing.T) {
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
	resp, res, err := mustNew(t, Config{}).Upgrade(nil, []byte(valid), somePeer)
	if got := checkResponse(t, valid, resp, res, err); got != 404 {
		t.Error(got)
	}
}

func TestMaxHeaderBytesHasBounds(t *testing.T) {
	for n, ok := range map[int]bool{0: true, 255: false, 256: true, 1 << 20: true, 1<<20 + 1: false} {
		if err := (Config{MaxHeaderBytes: n}).Validate(); (err == nil) != ok {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// Changing the configuration afterwards must not change the Upgrader.
func TestNewCopiesTheConfig(t *testing.T) {
	c := testConfig()
	u := mustNew(t, c)
	c.Routes[0].Path = "/other"
	c.Routes[0].Subprotocols[0] = "other"
	c.TrustedProxies[0] = netip.MustParsePrefix("192.0.2.0/24")
	_, res, err := u.Upgrade(nil, []byte(plus("Sec-WebSocket-Protocol: one\r\n", "X-Forwarded-For: 198.51.100.1\r\n")), somePeer)
	if err != nil || res.Subprotocol != "one" || res.Route.Path != "/echo" || res.ClientAddr != somePeer.Addr() {
		t.Errorf("%+v, %v", res, err)
	}
}
