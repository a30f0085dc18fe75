package handshake

import (
	"strings"
	"testing"
)

// browser is what Chrome sends, with a cookie.
const browser = "GET /echo?channels=news HTTP/1.1\r\n" +
	"Host: push.example.com\r\n" +
	"Connection: Upgrade\r\n" +
	"Pragma: no-cache\r\n" +
	"Cache-Control: no-cache\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n" +
	"Upgrade: websocket\r\n" +
	"Origin: https://push.example.com\r\n" +
	"Sec-WebSocket-Version: 13\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n" +
	"Cookie: session=5f2c7c0e4b0d4a0e8f1a2b3c4d5e6f70\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
	"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" +
	"Sec-WebSocket-Protocol: zero, two\r\n" +
	"\r\n"

var (
	someOrigin = strings.NewReplacer("/echo", "/some", "https://push.example.com", "https://app.example.org").Replace(browser)
	garbage    = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("x", 500) + "\n\n"
)

func BenchmarkUpgrade(b *testing.B) {
	for _, c := range []struct{ name, head string }{
		{"bare", valid},
		{"browser", browser},
		{"origin-pattern", someOrigin},
		{"accept", strings.Replace(browser, "/echo", "/ask", 1)},
		{"two-connection-lines", strings.Replace(browser, "Connection: ", "Connection: keep-alive\r\nConnection: ", 1)},
		{"unknown-path", strings.Replace(browser, "/echo", "/nowhere", 1)},
		{"wrong-version", strings.Replace(browser, "Version: 13", "Version: 8", 1)},
		{"garbage", garbage},
		{"8KiB", strings.Replace(browser, "session=", "session="+strings.Repeat("c", 7500), 1)},
	} {
		b.Run(c.name, func(b *testing.B) {
			u := mustNew(b, testConfig())
			head, dst := []byte(c.head), make([]byte, 0, 1024)
			b.SetBytes(int64(len(head)))
			b.ReportAllocs()
			for b.Loop() {
				dst, _, _ = u.Upgrade(dst[:0], head, somePeer)
			}
		})
	}
}

// BenchmarkUpgraderOfGobwas is the share of ws.Upgrader in BenchmarkUpgrade: the same
// requests, without a check beside its own.
func BenchmarkUpgraderOfGobwas(b *testing.B) {
	for name, head := range map[string]string{"bare": valid, "browser": browser} {
		b.Run(name, func(b *testing.B) {
			a := &attempt{}
			input, dst := []byte(head), make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				a.in, a.out = input, dst
				if _, err := a.ws.Upgrade(a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkHeaderEnd(b *testing.B) {
	head := []byte(browser)
	b.Run("whole", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			HeaderEnd(head, 0)
		}
	})
	b.Run("octet-by-octet", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for n := range head {
				HeaderEnd(head[:n+1], n)
			}
		}
	})
}

func BenchmarkIsUpgrade(b *testing.B) {
	plain := strings.NewReplacer("Upgrade: websocket\r\n", "", "Sec-WebSocket", "Sec-Something").Replace(browser)
	for name, head := range map[string][]byte{"browser": []byte(browser), "plain": []byte(plain)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				IsUpgrade(head)
			}
		})
	}
}
