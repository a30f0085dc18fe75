package handshake

import (
	"net/netip"
	"strings"
	"testing"
)

func TestClientAddr(t *testing.T) {
	const proxy, stranger = "10.0.0.1", "192.0.2.7"
	for _, c := range []struct {
		name   string
		field  string // Config.ForwardedHeader
		peer   string // empty for a unix socket
		header string
		want   string
	}{
		{"no proxy", "", stranger, "", stranger},
		{"peer that is not trusted", "", stranger, "X-Forwarded-For: 198.51.100.1\r\n", stranger},
		{"proxy that says nothing", "", proxy, "", proxy},
		{"one proxy", "", proxy, "X-Forwarded-For: 198.51.100.1\r\n", "198.51.100.1"},
		{"name in other case", "", proxy, "x-forwarded-for:198.51.100.1\r\n", "198.51.100.1"},
		{"two proxies", "", proxy, "X-Forwarded-For: 198.51.100.1, 10.0.0.2\r\n", "198.51.100.1"},
		{"forged entry", "", proxy, "X-Forwarded-For: 203.0.113.5, 198.51.100.1\r\n", "198.51.100.1"},
		{"forged entry of a trusted net", "", proxy, "X-Forwarded-For: 10.9.9.9, 198.51.100.1\r\n", "198.51.100.1"},
		{"lines are one list", "", proxy, "X-Forwarded-For: 203.0.113.5\r\nX-A: b\r\nX-Forwarded-For: 198.51.100.1,10.0.0.2\r\n", "198.51.100.1"},
		{"last line is all of proxies", "", proxy, "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "198.51.100.1"},
		{"proxies alone", "", proxy, "X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.3"},
		{"empty entries", "", proxy, "X-Forwarded-For: 198.51.100.1,, ,\r\n", "198.51.100.1"},
		{"entry that is no address", "", proxy, "X-Forwarded-For: 198.51.100.1, unknown, 10.0.0.2\r\n", "10.0.0.2"},
		{"with a port", "", proxy, "X-Forwarded-For: 198.51.100.1:4711\r\n", "198.51.100.1"},
		{"IPv6", "", proxy, "X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1"},
		{"IPv6 in brackets", "", proxy, "X-Forwarded-For: [2001:db8::1]\r\n", "2001:db8::1"},
		{"IPv6 with a port", "", proxy, "X-Forwarded-For: [2001:db8::1]:4711\r\n", "2001:db8::1"},
		{"IPv6 with an open bracket", "", proxy, "X-Forwarded-For: [2001:db8::1\r\n", proxy},
		{"IPv6 with a word for a port", "", proxy, "X-Forwarded-For: [2001:db8::1]:a\r\n", proxy},
		{"IPv6 with a zone", "", proxy, "X-Forwarded-For: fe80::1%eth0\r\n", "fe80::1"},
		{"IPv4 in IPv6", "", proxy, "X-Forwarded-For: ::ffff:198.51.100.1\r\n", "198.51.100.1"},
		{"proxy as IPv4 in IPv6", "", "::ffff:10.0.0.1", "X-Forwarded-For: 198.51.100.1\r\n", "198.51.100.1"},
		{"IPv6 proxy", "", "fd00::1", "X-Forwarded-For: 198.51.100.1, fd00::2\r\n", "198.51.100.1"},
		{"very long entry", "", proxy, "X-Forwarded-For: " + strings.Repeat("1", 5000) + "\r\n", proxy},
		{"very long zone", "", proxy, "X-Forwarded-For: fe80::1%" + strings.Repeat("a", 5000) + "\r\n", proxy},
		{"unix socket", "", "", "X-Forwarded-For: 198.51.100.1\r\n", "198.51.100.1"},
		{"unix socket that says nothing", "", "", "", "invalid IP"},
		{"fields that the proxy does not write", "", proxy, "Forwarded: for=203.0.113.5\r\nX-Real-IP: 203.0.113.5\r\n", proxy},

		{"X-Real-IP", "X-Real-IP", proxy, "X-Forwarded-For: 203.0.113.5\r\nX-Real-Ip: 198.51.100.1\r\n", "198.51.100.1"},

		{"Forwarded", "Forwarded", proxy, "Forwarded: for=198.51.100.1\r\n", "198.51.100.1"},
		{"Forwarded in full", "forwarded", proxy, "Forwarded: by=10.0.0.1; For=\"198.51.100.1:80\";proto=https;host=a\r\n", "198.51.100.1"},
		{"Forwarded, IPv6", "Forwarded", proxy, "Forwarded: for=\"[2001:db8::1]:4711\"\r\n", "2001:db8::1"},
		{"Forwarded, a chain", "Forwarded", proxy, "Forwarded: for=203.0.113.5, for=198.51.100.1;proto=http, for=10.0.0.2\r\n", "198.51.100.1"},
		{"Forwarded, forged quote", "Forwarded", proxy, "Forwarded: for=\"203.0.113.5, for=198.51.100.1\r\n", "198.51.100.1"},
		{"Forwarded, hidden", "Forwarded", proxy, "Forwarded: for=203.0.113.5, for=_secret\r\n", proxy},
		{"Forwarded without for", "Forwarded", proxy, "Forwarded: proto=https\r\n", proxy},
		{"Forwarded, not the others", "Forwarded", proxy, "X-Forwarded-For: 203.0.113.5\r\n", proxy},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := testConfig()
			config.ForwardedHeader = c.field
			var peer netip.AddrPort
			if c.peer != "" {
				peer = netip.AddrPortFrom(netip.MustParseAddr(c.peer), 4000)
			}
			_, res, err := mustNew(t, config).Upgrade(nil, []byte(plus(c.header)), peer)
			if err != nil || res.ClientAddr.String() != c.want {
				t.Errorf("%v, %v, want %s", res.ClientAddr, err, c.want)
			}
		})
	}
}

// A client behind a proxy may write as many entries as fit into the header.
func TestClientAddrLooksAtFewEntries(t *testing.T) {
	u := mustNew(t, testConfig())
	in := plus("X-Forwarded-For: 203.0.113.5" + strings.Repeat(",10.0.0.2", 500) + strings.Repeat(",10.0.0.3", maxHops) + "\r\n")
	_, res, err := u.Upgrade(nil, []byte(in), netip.MustParseAddrPort("10.0.0.1:1"))
	if err != nil || res.ClientAddr.String() != "10.0.0.3" {
		t.Errorf("%v, %v", res.ClientAddr, err)
	}
}

func TestNobodyIsTrustedByDefault(t *testing.T) {
	u := mustNew(t, Config{Routes: []Route{{Path: "/echo"}}})
	for _, peer := range []netip.AddrPort{{}, netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("10.0.0.1:1")} {
		_, res, err := u.Upgrade(nil, []byte(plus("X-Forwarded-For: 198.51.100.1\r\n")), peer)
		if err != nil || res.ClientAddr != peer.Addr() {
			t.Errorf("peer %v: %v, %v", peer, res.ClientAddr, err)
		}
	}
}
