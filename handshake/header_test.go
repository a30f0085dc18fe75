package handshake

import (
	"strings"
	"testing"
)

// ends are inputs with their HeaderEnd.
var ends = []struct {
	name string
	in   string
	want int
}{
	{"nothing", "", -1},
	{"one line", "GET / HTTP/1.1\r\n", -1},
	{"request line alone", "GET / HTTP/1.1\r\n\r\n", 18},
	{"request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27},
	{"frames after it", "GET / HTTP/1.1\r\nHost: a\r\n\r\n\x81\x80\n\n", 27},
	{"bare LF", "GET / HTTP/1.1\nHost: a\n\n", 24},
	{"LF, CR LF", "GET / HTTP/1.1\nHost: a\n\r\nb", 25},
	{"CR LF, LF", "GET / HTTP/1.1\r\nHost: a\r\n\nb", 26},
	{"CR CR LF", "GET / HTTP/1.1\r\n\r\r\n", -1},
	{"blank line first", "\r\nGET / HTTP/1.1\r\n", -1},
	{"blank lines alone", "\r\n\r\n", 4},
	{"CRs", "\r\r\r\r", -1},
	{"LF LF", "\n\n", 2},
}

func TestHeaderEnd(t *testing.T) {
	for _, c := range ends {
		t.Run(c.name, func(t *testing.T) { checkEnd(t, c.in, c.want) })
	}
	for _, c := range requests {
		t.Run(c.name, func(t *testing.T) { checkEnd(t, c.in, naiveEnd(c.in)) })
	}
}

// checkEnd searches in whole, split at each octet, and octet by octet.
func checkEnd(t *testing.T, in string, want int) {
	t.Helper()
	b := []byte(in)
	if got := HeaderEnd(b, 0); got != want || naiveEnd(in) != want {
		t.Fatalf("HeaderEnd = %d, its twin %d, want %d", got, naiveEnd(in), want)
	}
	for i := range b {
		got := HeaderEnd(b[:i:i], 0)
		if got < 0 {
			got = HeaderEnd(b, i)
		}
		if got != want {
			t.Fatalf("split at %d: %d, want %d", i, got, want)
		}
	}
	got, searched := -1, 0
	for n := 0; n <= len(b) && got < 0; n++ {
		got = HeaderEnd(b[:n:n], searched)
		searched = n
	}
	if got != want {
		t.Fatalf("octet by octet: %d, want %d", got, want)
	}
}

func TestHeaderEndTakesAnyFrom(t *testing.T) {
	b := []byte("GET / HTTP/1.1\r\n\r\n")
	for _, from := range []int{-5, 0, 15, len(b), len(b) + 1, len(b) + 100} {
		want := len(b)
		if from > len(b)+1 {
			want = -1 // nothing of the end is within reach
		}
		if got := HeaderEnd(b, from); got != want && got != -1 {
			t.Errorf("from %d: %d", from, got)
		}
	}
}

func TestIsUpgrade(t *testing.T) {
	for _, c := range []struct {
		name string
		in   string
		want bool
	}{
		{"handshake", valid, true},
		{"page", "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\n\r\n", false},
		{"HTTP/2 over TCP", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n", false},
		{"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\n", false},
		{"upgrade alone", "GET / HTTP/1.1\r\nUPGRADE:h2c ,\tWebSocket\r\n\r\n", true},
		{"upgrade to something alike", "GET / HTTP/1.1\r\nUpgrade: websocket2, websocket/13\r\n\r\n", false},
		{"upgrade with bare LF", "GET / HTTP/1.1\nUpgrade: websocket\n\n", true},
		{"space before the colon", "GET / HTTP/1.1\r\nUpgrade : websocket\r\n\r\n", true},
		{"key alone", "GET / HTTP/1.1\r\nsec-websocket-key: a\r\n\r\n", true},
		{"version alone", "GET / HTTP/1.1\r\nSec-WebSocket-Version:\r\n\r\n", true},
		{"other names of the same length", "GET / HTTP/1.1\r\nReferer: websocket\r\nTransfer-Encoding: chunked\r\nX-Websocket-Versions: 13\r\n\r\n", false},
		{"in the path", "GET /Upgrade:websocket HTTP/1.1\r\n\r\n", false},
		{"request line that looks like it", "Upgrade: websocket\r\n\r\n", false},
		{"nothing", "", false},
		{"no line end", "GET / HTTP/1.1", false},
		{"no blank line", "GET / HTTP/1.1\r\nUpgrade: websocket", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := IsUpgrade([]byte(c.in)); got != c.want {
				t.Errorf("IsUpgrade(%q) = %t", c.in, got)
			}
		})
	}
}

// A handshake must never be taken for a plain request.
func TestIsUpgradeIsTrueOfAllThatIsUpgraded(t *testing.T) {
	for _, c := range requests {
		if c.status == 101 && !IsUpgrade([]byte(c.in)) {
			t.Errorf("%s: not taken for a handshake", c.name)
		}
	}
}

func TestIsUpgradeOnLongLines(t *testing.T) {
	in := "GET / HTTP/1.1\r\n" + strings.Repeat("Upgrade: "+strings.Repeat(",", 100)+"\r\n", 80) + "\r\n"
	if IsUpgrade([]byte(in)) {
		t.Error("commas are no protocol")
	}
}
