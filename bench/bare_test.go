package bench

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/millpond/millpond/codec"
)

// bare starts the yardstick.
func bare(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	in, out := io.Pipe()
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := ServeBare(ctx, out); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		serving.Wait()
	})
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// TestBareEchoes holds the yardstick to doing all of the work: what it echoes is right, of every length and however
// it is cut.
func TestBareEchoes(t *testing.T) {
	target := bare(t)
	c, _, err := websocket.Dial(t.Context(), target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 7, 125, 126, 65535, 65536, 200_000} {
		message := strings.Repeat("0123456789abcdef!", size/17+1)[:size]
		c.SetReadLimit(1 << 20)
		if err := c.Write(t.Context(), websocket.MessageText, []byte(message)); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.Read(t.Context()); err != nil || string(b) != message {
			t.Fatalf("%d bytes came back as %d, %v", size, len(b), err)
		}
	}
	_ = c.CloseNow()

	u, _ := url.Parse(target)
	raw, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(raw, "GET / HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	in := bufio.NewReader(raw)
	for line := ""; line != "\r\n"; {
		if line, err = in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if key, ok := strings.CutPrefix(line, "Sec-WebSocket-Accept: "); ok && key != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" {
			t.Fatalf("accept %q", key)
		}
	}
	frame := codec.AppendMaskedFrame(nil, codec.OpText, true, []byte("cut at each byte"), [4]byte{1, 2, 3, 4})
	want := codec.AppendFrame(nil, codec.OpText, []byte("cut at each byte"))
	got := make([]byte, len(want))
	for cut := 1; cut < len(frame); cut++ {
		_, _ = raw.Write(frame[:cut])
		_, _ = raw.Write(frame[cut:])
		if _, err := io.ReadFull(in, got); err != nil || string(got) != string(want) {
			t.Fatalf("cut at %d: %q, %v", cut, got, err)
		}
	}
}

func TestBareCarriesTheLoad(t *testing.T) {
	for _, depth := range []int{1, 16} {
		r, err := measure(t, Echo{Depth: depth, NoBare: true}, Options{
			Target: Target{URL: bare(t)}, Connections: 4, Duration: 300 * time.Millisecond, Warmup: time.Millisecond,
		})
		if err != nil || figure(t, r, "messages/s") == 0 {
			t.Errorf("%+v, %v", r, err)
		}
	}
}
