package handshake

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

// FuzzUpgrade: no panic, no octet outside head read or any of head written,
// always one well-formed response, and a 101 exactly when the twin agrees.
func FuzzUpgrade(f *testing.F) {
	for _, r := range requests {
		f.Add([]byte(r.in))
	}
	f.Add([]byte(plus("X-Forwarded-For: 198.51.100.1, [::1]:80, 10.0.0.2\r\n", "Forwarded: for=\"[2001:db8::1]\";by=a, for=10.0.0.2\r\n")))
	config := testConfig()
	forwarded := config
	forwarded.ForwardedHeader = "Forwarded"
	upgraders := []*Upgrader{mustNew(f, config), mustNew(f, forwarded)}
	proxy := netip.MustParseAddrPort("10.0.0.1:1")
	f.Fuzz(func(t *testing.T, in []byte) {
		// What lies behind the header would make a good line more.
		buf := append(bytes.Clone(in), "Host: example.com\r\n\r\n"...)
		head := buf[:len(in)]
		for _, u := range upgraders {
			resp, res, err := u.Upgrade(nil, head, proxy)
			got := checkResponse(t, string(in), resp, res, err)
			if !bytes.Equal(head, in) {
				t.Fatal("the header has been written to")
			}
			if twin := naive(string(in), config); (twin == nil) != (got == 101) {
				t.Fatalf("status %d (%v), the twin says %v", got, err, twin)
			}
			if got == 101 && (!IsUpgrade(head) || HeaderEnd(head, 0) != len(head)) {
				t.Fatal("upgraded what a reader would not have passed on")
			}
		}
	})
}

// FuzzHeaderEnd: the same end for any split, and the twin's.
func FuzzHeaderEnd(f *testing.F) {
	for _, c := range ends {
		f.Add([]byte(c.in), uint16(len(c.in)/2))
	}
	f.Fuzz(func(t *testing.T, in []byte, at uint16) {
		want := naiveEnd(string(in))
		if got := HeaderEnd(in, 0); got != want {
			t.Fatalf("%d, the twin says %d", got, want)
		}
		split := min(int(at), len(in))
		got := HeaderEnd(in[:split:split], 0)
		if got < 0 {
			got = HeaderEnd(in, split)
		}
		if got != want {
			t.Fatalf("split at %d: %d, want %d", split, got, want)
		}
	})
}

// FuzzResponse: whatever a Fault is made of, one well-formed response comes out.
func FuzzResponse(f *testing.F) {
	f.Add(401, "no token", "WWW-Authenticate", "Bearer")
	f.Add(0, "", "a:b", "c\r\nd")
	f.Fuzz(func(t *testing.T, status int, reason, name, value string) {
		if strings.EqualFold(name, "Trailer") {
			return // net/http takes it out of the header
		}
		fault := &Fault{Status: status, Kind: "fuzz", Reason: reason, Header: []Field{{name, value}}}
		want := *fault
		want.Status, want.Header = fault.status(), nil
		checkResponse(t, valid, fault.AppendResponse(nil), Result{}, &want)
	})
}
