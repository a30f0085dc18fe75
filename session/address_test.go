package session

import (
	"net/netip"
	"strings"
	"testing"
)

func TestAddresses(t *testing.T) {
	a := newAddresses(2)
	for _, c := range []struct {
		id   uint64
		addr string
		ok   bool
	}{
		{1, "192.0.2.1", true},
		{2, "192.0.2.1", true},
		{3, "192.0.2.1", false},
		{4, "::ffff:192.0.2.1", false},
		{5, "192.0.2.2", true},
		{6, "2001:db8::1", true},
		{7, "2001:db8::2", true},
		{8, "2001:db8::ffff:0:0:3", false},
		{9, "2001:db8:0:1::1", true},
		{10, "fe80::1%lo", true},
	} {
		if ok := a.take(c.id, netip.MustParseAddr(c.addr)); ok != c.ok {
			t.Errorf("%d, %s: %v", c.id, c.addr, ok)
		}
	}
	if !a.take(11, netip.Addr{}) || !a.take(12, netip.Addr{}) || !a.take(13, netip.Addr{}) {
		t.Error("clients without an address are counted")
	}
	a.give(3)
	a.give(11)
	if a.take(3, netip.MustParseAddr("192.0.2.1")) {
		t.Error("giving back what was not taken made room")
	}
	a.give(1)
	a.give(1)
	if !a.take(3, netip.MustParseAddr("192.0.2.1")) || a.take(4, netip.MustParseAddr("192.0.2.1")) {
		t.Error("giving one back makes room for one")
	}
	for id := range uint64(20) {
		a.give(id)
	}
	if addresses, sessions := a.len(); addresses != 0 || sessions != 0 {
		t.Errorf("%d addresses with %d sessions are left", addresses, sessions)
	}
	none := newAddresses(0)
	if !none.take(1, netip.MustParseAddr("192.0.2.1")) {
		t.Error("no limit")
	}
	none.give(1)
}

// Clients behind a trusted proxy are told apart by what it says of them; those of one address have so many places.
func TestMaxPerAddress(t *testing.T) {
	s := startServer(t, Config{
		MaxPerAddress: 2, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Endpoints: []Endpoint{{Path: "/echo", Handler: echoHandler{}}},
	})
	connect := func(addr, status string) *raw {
		c := s.connect()
		c.write([]byte(strings.TrimSuffix(openingHandshake, "\r\n") + "X-Forwarded-For: " + addr + "\r\n\r\n"))
		if head := c.response(status); status == "503" && !strings.Contains(head, "Retry-After: ") {
			t.Error(head)
		}
		return c
	}
	first := connect("192.0.2.1", "101")
	connect("192.0.2.1", "101")
	connect("192.0.2.1", "503")
	connect("192.0.2.2", "101")
	if n := s.Stats().RefusedAddress; n != 1 {
		t.Errorf("%d refused", n)
	}
	_ = first.Close()
	eventually(t, "there is room again", func() bool { _, n := s.addresses.len(); return n == 2 })
	connect("192.0.2.1", "101")
	if n := s.admitted.Load(); n != 3 {
		t.Errorf("%d are admitted, want 3", n)
	}
}
