package handshake

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// valid is a handshake with nothing wrong and nothing special about it; the
// accept value of its key is in RFC 6455 §1.3.
const valid = "GET /echo HTTP/1.1\r\n" +
	"Host: example.com\r\n" +
	"Upgrade: websocket\r\n" +
	"Connection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
	"Sec-WebSocket-Version: 13\r\n" +
	"\r\n"

// sub is valid with the first old replaced.
func sub(old, replacement string) string {
	if !strings.Contains(valid, old) {
		panic("not in the valid request: " + old)
	}
	return strings.Replace(valid, old, replacement, 1)
}

// plus is valid with more fields; each comes with its CRLF.
func plus(fields ...string) string {
	return strings.TrimSuffix(valid, "\r\n") + strings.Join(fields, "") + "\r\n"
}

// without is valid without the line that begins so.
func without(prefix string) string {
	_, rest, ok := strings.Cut(valid, prefix)
	if !ok {
		panic("not in the valid request: " + prefix)
	}
	_, rest, _ = strings.Cut(rest, "\r\n")
	before, _, _ := strings.Cut(valid, prefix)
	return before + rest
}

// requests is the table of handshakes: tests, splits and fuzz seeds all use it. The
// routes are those of testConfig. status 101 means accepted.
var requests = []struct {
	name   string
	in     string
	status int
	kind   Kind
	sub    string // the subprotocol chosen
}{
	// In order.
	{name: "valid", in: valid, status: 101},
	{name: "lower case names", in: sub("Sec-WebSocket-Version", "sec-websocket-version"), status: 101},
	{name: "upper case names", in: sub("Upgrade: websocket", "UPGRADE: WEBSOCKET"), status: 101},
	{name: "no space after the colon", in: sub("Host: ", "Host:"), status: 101},
	{name: "space around a value", in: sub("Version: 13", "Version: \t13 \t"), status: 101},
	{name: "empty value of another field", in: plus("X-Nothing:\r\n"), status: 101},
	{name: "obs-text in another field", in: plus("X-Name: Bl\xfcm\xe4\r\n"), status: 101},
	{name: "query", in: sub("/echo", "/echo?token=a%20b&token=%zz"), status: 101},
	{name: "query with raw marks", in: sub("/echo", `/echo?a={"b":[1|2]}`), status: 101},
	{name: "empty query", in: sub("/echo", "/echo?"), status: 101},
	{name: "second question mark", in: sub("/echo", "/echo??/open"), status: 101},
	{name: "long field", in: plus("Cookie: " + strings.Repeat("c", 5000) + "\r\n"), status: 101},
	{name: "HTTP/1.2", in: sub("HTTP/1.1", "HTTP/1.2"), status: 101},
	{name: "content of no length", in: plus("Content-Length: 0\r\n"), status: 101},
	{name: "key with spare bits set", in: sub("ZQ==", "ZR=="), status: 101},
	{name: "host with port", in: sub("example.com", "example.com:8000"), status: 101},
	{name: "host without port number", in: sub("example.com", "example.com:"), status: 101},
	{name: "IPv6 host", in: sub("example.com", "[2001:db8::1]:8000"), status: 101},

	// Connection and Upgrade are lists.
	{name: "connection list", in: sub("Connection: Upgrade", "Connection: keep-alive, Upgrade"), status: 101},
	{name: "connection list, other case", in: sub("Connection: Upgrade", "Connection: Keep-Alive ,\tuPGRADE"), status: 101},
	{name: "connection list with empty elements", in: sub("Connection: Upgrade", "Connection: , Upgrade,,"), status: 101},
	{name: "two connection lines", in: sub("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade"), status: 101},
	{name: "two connection lines, upgrade first", in: sub("Connection: Upgrade", "Connection: Upgrade\r\nUpgrade-Insecure-Requests: 1\r\nConnection: close"), status: 101},
	{name: "upgrade list", in: sub("Upgrade: websocket", "Upgrade: h2c, websocket"), status: 101},
	{name: "upgrade list with versions", in: sub("Upgrade: websocket", "Upgrade: WebSocket, IRC/6.9"), status: 101},
	{name: "two upgrade lines", in: sub("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket"), status: 101},
	{name: "lists in lines and a subprotocol", in: sub("Connection: Upgrade", "Connection: a\r\nSec-WebSocket-Protocol: two\r\nConnection: Upgrade"), status: 101, sub: "two"},
	{name: "no upgrade", in: without("Upgrade:"), status: 426, kind: KindUpgrade},
	{name: "upgrade to something else", in: sub("Upgrade: websocket", "Upgrade: h2c"), status: 400, kind: KindUpgrade},
	{name: "upgrade to a version of it", in: sub("Upgrade: websocket", "Upgrade: websocket/13"), status: 400, kind: KindUpgrade},
	{name: "empty upgrade", in: sub("Upgrade: websocket", "Upgrade:"), status: 400, kind: KindUpgrade},
	{name: "upgrade list without commas", in: sub("Upgrade: websocket", "Upgrade: h2c websocket"), status: 400, kind: KindUpgrade},
	{name: "malformed upgrade list", in: sub("Upgrade: websocket", "Upgrade: websocket, @"), status: 400, kind: KindUpgrade},
	{name: "malformed version in an upgrade list", in: sub("Upgrade: websocket", "Upgrade: websocket, a/@"), status: 400, kind: KindUpgrade},
	{name: "malformed second upgrade line", in: plus("Upgrade: /\r\n"), status: 400, kind: KindUpgrade},
	{name: "no connection", in: without("Connection:"), status: 400, kind: KindConnection},
	{name: "connection of another kind", in: sub("Connection: Upgrade", "Connection: keep-alive"), status: 400, kind: KindConnection},
	{name: "connection list without commas", in: sub("Connection: Upgrade", "Connection: keep-alive Upgrade"), status: 400, kind: KindConnection},
	{name: "malformed connection list", in: sub("Connection: Upgrade", "Connection: Upgrade, a/b"), status: 400, kind: KindConnection},
	{name: "quoted connection", in: sub("Connection: Upgrade", `Connection: "Upgrade"`), status: 400, kind: KindConnection},

	// The request line.
	{name: "empty", in: "\r\n", status: 400, kind: KindRequestLine},
	{name: "nothing but blank lines", in: "\r\n\r\n", status: 400, kind: KindRequestLine},
	{name: "one word", in: sub("GET /echo HTTP/1.1", "GET"), status: 400, kind: KindRequestLine},
	{name: "no version", in: sub(" HTTP/1.1", ""), status: 400, kind: KindRequestLine},
	{name: "two spaces", in: sub("GET /echo", "GET  /echo"), status: 400, kind: KindRequestLine},
	{name: "space at the end", in: sub("HTTP/1.1", "HTTP/1.1 "), status: 400, kind: KindRequestLine},
	{name: "tab for a space", in: sub("GET /echo", "GET\t/echo"), status: 400, kind: KindRequestLine},
	{name: "space in the path", in: sub("/echo", "/ec ho"), status: 400, kind: KindRequestLine},
	{name: "NUL in the path", in: sub("/echo", "/echo\x00"), status: 400, kind: KindRequestLine},
	{name: "raw UTF-8 in the path", in: sub("/echo", "/é"), status: 400, kind: KindRequestLine},
	{name: "fragment", in: sub("/echo", "/echo#a"), status: 400, kind: KindRequestLine},
	{name: "bare LF after the request line", in: sub("HTTP/1.1\r\n", "HTTP/1.1\n"), status: 400, kind: KindRequestLine},
	{name: "CR CR LF after the request line", in: sub("HTTP/1.1\r\n", "HTTP/1.1\r\r\n"), status: 400, kind: KindRequestLine},
	{name: "HTTP/1.99", in: sub("HTTP/1.1", "HTTP/1.99"), status: 400, kind: KindRequestLine},
	{name: "HTTP/01.1", in: sub("HTTP/1.1", "HTTP/01.1"), status: 400, kind: KindRequestLine},
	{name: "http/1.1", in: sub("HTTP/1.1", "http/1.1"), status: 400, kind: KindRequestLine},
	{name: "HTTP/:.1", in: sub("HTTP/1.1", "HTTP/:.1"), status: 400, kind: KindRequestLine},
	{name: "HTTP/1.0", in: sub("HTTP/1.1", "HTTP/1.0"), status: 505, kind: KindHTTPVersion},
	{name: "HTTP/0.9", in: sub("HTTP/1.1", "HTTP/0.9"), status: 505, kind: KindHTTPVersion},
	{name: "HTTP/2.0", in: sub("HTTP/1.1", "HTTP/2.0"), status: 505, kind: KindHTTPVersion},
	{name: "POST", in: sub("GET", "POST"), status: 405, kind: KindMethod},
	{name: "HEAD", in: sub("GET", "HEAD"), status: 405, kind: KindMethod},
	{name: "get", in: sub("GET", "get"), status: 405, kind: KindMethod},
	{name: "method that is no token", in: sub("GET", "G(T"), status: 400, kind: KindRequestLine},
	{name: "asterisk-form", in: sub("/echo", "*"), status: 400, kind: KindRequestLine},
	{name: "authority-form", in: sub("/echo", "example.com:80"), status: 400, kind: KindRequestLine},

	// Absolute-form targets.
	{name: "absolute-form", in: sub("/echo", "http://example.com/echo"), status: 101},
	{name: "absolute-form, ws", in: sub("/echo", "WS://example.com:8000/echo?a=b"), status: 101},
	{name: "absolute-form without path", in: sub("/echo", "http://example.com"), status: 404, kind: KindPath},
	{name: "absolute-form with query alone", in: sub("/echo", "http://example.com?/echo"), status: 404, kind: KindPath},
	{name: "absolute-form, other scheme", in: sub("/echo", "ftp://example.com/echo"), status: 400, kind: KindRequestLine},
	{name: "absolute-form without host", in: sub("/echo", "http:///echo"), status: 400, kind: KindRequestLine},
	{name: "absolute-form with userinfo", in: sub("/echo", "http://a:b@example.com/echo"), status: 400, kind: KindRequestLine},
	{name: "absolute-form without Host", in: strings.Replace(without("Host:"), "/echo", "http://example.com/echo", 1), status: 400, kind: KindHost},
	{name: "absolute-form decides the host", in: strings.Replace(plus("Origin: http://other.example\r\n"), "/echo", "http://other.example/echo", 1), status: 101},
	{name: "absolute-form overrules Host", in: strings.Replace(plus("Origin: http://example.com\r\n"), "/echo", "http://other.example/echo", 1), status: 403, kind: KindOrigin},

	// Paths.
	{name: "unknown path", in: sub("/echo", "/nowhere"), status: 404, kind: KindPath},
	{name: "path with a slash more", in: sub("/echo", "/echo/"), status: 404, kind: KindPath},
	{name: "path in other case", in: sub("/echo", "/Echo"), status: 404, kind: KindPath},
	{name: "percent-encoded path", in: sub("/echo", "/%65cho"), status: 404, kind: KindPath},
	{name: "malformed percent-encoding", in: sub("/echo", "/%zz"), status: 404, kind: KindPath},
	{name: "dot segments", in: sub("/echo", "/a/../echo"), status: 404, kind: KindPath},
	{name: "two slashes", in: sub("/echo", "//echo"), status: 404, kind: KindPath},
	{name: "unknown path and no key", in: strings.Replace(without("Sec-WebSocket-Key:"), "/echo", "/nowhere", 1), status: 400, kind: KindKey},

	// The header's form.
	{name: "space before the colon", in: sub("Host:", "Host :"), status: 400, kind: KindHeader},
	{name: "tab before the colon", in: sub("Host:", "Host\t:"), status: 400, kind: KindHeader},
	{name: "obs-fold", in: plus("X-Folded: a\r\n b\r\n"), status: 400, kind: KindHeader},
	{name: "obs-fold of the upgrade", in: sub("Upgrade: websocket", "Upgrade:\r\n websocket"), status: 400, kind: KindHeader},
	{name: "space before the first field", in: sub("Host:", " Host:"), status: 400, kind: KindHeader},
	{name: "no colon", in: plus("nonsense\r\n"), status: 400, kind: KindHeader},
	{name: "no name", in: plus(": a\r\n"), status: 400, kind: KindHeader},
	{name: "name that is no token", in: plus("X(Y): a\r\n"), status: 400, kind: KindHeader},
	{name: "name with a high octet", in: plus("X\xe4: a\r\n"), status: 400, kind: KindHeader},
	{name: "bare LF in the header", in: plus("X-A: a\nX-B: b\r\n"), status: 400, kind: KindHeader},
	{name: "NUL for a CR", in: plus("X-A: a\x00\n"), status: 400, kind: KindHeader},
	{name: "LF for a CR", in: plus("X-A: a\n\n"), status: 400, kind: KindHeader},
	{name: "bare CR in a value", in: plus("X-A: a\rb\r\n"), status: 400, kind: KindHeader},
	{name: "NUL in a value", in: plus("X-A: a\x00b\r\n"), status: 400, kind: KindHeader},
	{name: "DEL in a value", in: plus("X-A: a\x7fb\r\n"), status: 400, kind: KindHeader},
	{name: "escape in a value", in: plus("X-A: \x1b[2J\r\n"), status: 400, kind: KindHeader},
	{name: "blank line with a bare LF", in: strings.TrimSuffix(valid, "\r\n") + "\n", status: 400, kind: KindHeader},
	{name: "no blank line", in: strings.TrimSuffix(valid, "\r\n"), status: 400, kind: KindHeader},
	{name: "octets after the blank line", in: valid + "\x81\x80", status: 400, kind: KindHeader},
	{name: "too large", in: plus("Cookie: " + strings.Repeat("c", 9000) + "\r\n"), status: 431, kind: KindTooLarge},
	{name: "URI too long", in: sub("/echo", "/echo?"+strings.Repeat("u", 9000)), status: 414, kind: KindURITooLong},

	// Host.
	{name: "no host", in: without("Host:"), status: 400, kind: KindHost},
	{name: "empty host", in: sub("Host: example.com", "Host:"), status: 400, kind: KindHost},
	{name: "two hosts", in: plus("host: example.com\r\n"), status: 400, kind: KindDuplicate},
	{name: "host with userinfo", in: sub("example.com", "a@example.com"), status: 400, kind: KindHost},
	{name: "host with a path", in: sub("example.com", "example.com/"), status: 400, kind: KindHost},
	{name: "host with a space", in: sub("example.com", "example .com"), status: 400, kind: KindHost},
	{name: "host of words for a port", in: sub("example.com", "example.com:http"), status: 400, kind: KindHost},
	{name: "host of nothing but a port", in: sub("example.com", ":80"), status: 400, kind: KindHost},
	{name: "IPv6 host without brackets", in: sub("example.com", "2001:db8::1"), status: 400, kind: KindHost},
	{name: "IPv6 host half in brackets", in: sub("example.com", "[2001:db8::1"), status: 400, kind: KindHost},
	{name: "brackets around something else", in: sub("example.com", "[example.com]"), status: 400, kind: KindHost},
	{name: "IPv4 in brackets", in: sub("example.com", "[127.0.0.1]"), status: 400, kind: KindHost},
	{name: "text after the brackets", in: sub("example.com", "[::1]a"), status: 400, kind: KindHost},
	{name: "IPv6 host with a zone", in: sub("example.com", "[fe80::1%eth0]"), status: 400, kind: KindHost},

	// Sec-WebSocket-Version.
	{name: "no version field", in: without("Sec-WebSocket-Version:"), status: 400, kind: KindVersion},
	{name: "version 8", in: sub("Version: 13", "Version: 8"), status: 426, kind: KindVersion},
	{name: "version 013", in: sub("Version: 13", "Version: 013"), status: 426, kind: KindVersion},
	{name: "two versions in one", in: sub("Version: 13", "Version: 13, 8"), status: 426, kind: KindVersion},
	{name: "empty version", in: sub("Version: 13", "Version:"), status: 426, kind: KindVersion},
	{name: "version twice", in: plus("Sec-WebSocket-Version: 13\r\n"), status: 400, kind: KindDuplicate},

	// Sec-WebSocket-Key.
	{name: "no key", in: without("Sec-WebSocket-Key:"), status: 400, kind: KindKey},
	{name: "empty key", in: sub("dGhlIHNhbXBsZSBub25jZQ==", ""), status: 400, kind: KindKey},
	{name: "short key", in: sub("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j"), status: 400, kind: KindKey},
	{name: "key of 24 octets, not base64", in: sub("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j!Q=="), status: 400, kind: KindKey},
	{name: "key of URL-safe base64", in: sub("dGhlIHNhbXBsZSBub25jZQ==", "-_hlIHNhbXBsZSBub25jZQ=="), status: 400, kind: KindKey},
	{name: "key of 17 octets", in: sub("ZQ==", "ZWE="), status: 400, kind: KindKey},
	{name: "key of 18 octets", in: sub("ZQ==", "ZWVl"), status: 400, kind: KindKey},
	{name: "padding in the middle", in: sub("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==ZQ==ZQ=="), status: 400, kind: KindKey},
	{name: "key twice", in: plus("Sec-Websocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), status: 400, kind: KindDuplicate},

	// A body.
	{name: "content", in: plus("Content-Length: 1\r\n"), status: 400, kind: KindBody},
	{name: "content of negative length", in: plus("Content-Length: -0\r\n"), status: 400, kind: KindBody},
	{name: "content of empty length", in: plus("Content-Length:\r\n"), status: 400, kind: KindBody},
	{name: "two lengths of content", in: plus("Content-Length: 0\r\n", "Content-Length: 0\r\n"), status: 400, kind: KindDuplicate},
	{name: "chunked", in: plus("Transfer-Encoding: chunked\r\n"), status: 400, kind: KindBody},
	{name: "identity", in: plus("transfer-encoding: identity\r\n"), status: 400, kind: KindBody},

	// Subprotocols: the client's order decides, and the case of letters.
	{name: "subprotocol", in: plus("Sec-WebSocket-Protocol: one\r\n"), status: 101, sub: "one"},
	{name: "subprotocols", in: plus("Sec-WebSocket-Protocol: zero, two,one\r\n"), status: 101, sub: "two"},
	{name: "subprotocols in lines", in: plus("Sec-WebSocket-Protocol: zero\r\n", "Sec-WebSocket-Protocol: two\r\n", "Sec-WebSocket-Protocol: one\r\n"), status: 101, sub: "two"},
	{name: "subprotocol that is not spoken", in: plus("Sec-WebSocket-Protocol: zero\r\n"), status: 101},
	{name: "subprotocol in other case", in: plus("Sec-WebSocket-Protocol: ONE\r\n"), status: 101},
	{name: "subprotocol for a route without", in: strings.Replace(plus("Sec-WebSocket-Protocol: one\r\n"), "/echo", "/open", 1), status: 101},
	{name: "empty elements among subprotocols", in: plus("Sec-WebSocket-Protocol: ,,one,\r\n"), status: 101, sub: "one"},
	{name: "empty list of subprotocols", in: plus("Sec-WebSocket-Protocol:\r\n"), status: 400, kind: KindSubprotocol},
	{name: "subprotocols without commas", in: plus("Sec-WebSocket-Protocol: one two\r\n"), status: 400, kind: KindSubprotocol},
	{name: "quoted subprotocol", in: plus("Sec-WebSocket-Protocol: \"one\"\r\n"), status: 400, kind: KindSubprotocol},
	{name: "malformed after the chosen subprotocol", in: plus("Sec-WebSocket-Protocol: one, @\r\n"), status: 400, kind: KindSubprotocol},
	{name: "malformed line after the chosen subprotocol", in: plus("Sec-WebSocket-Protocol: one\r\n", "Sec-WebSocket-Protocol: ;\r\n"), status: 400, kind: KindSubprotocol},

	// Extensions are declined, but read.
	{name: "deflate", in: plus("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"), status: 101},
	{name: "many extensions", in: plus("Sec-WebSocket-Extensions: a;b=c ;\td = \"e\", f,,g;h=\"\\i\"\r\n", "Sec-WebSocket-Extensions: a\r\n"), status: 101},
	{name: "no extension", in: plus("Sec-WebSocket-Extensions: ,\r\n"), status: 400, kind: KindExtensions},
	{name: "extension without a name", in: plus("Sec-WebSocket-Extensions: ;a\r\n"), status: 400, kind: KindExtensions},
	{name: "extension without a parameter", in: plus("Sec-WebSocket-Extensions: a;\r\n"), status: 400, kind: KindExtensions},
	{name: "parameter without a value", in: plus("Sec-WebSocket-Extensions: a;b=\r\n"), status: 400, kind: KindExtensions},
	{name: "empty quoted value", in: plus("Sec-WebSocket-Extensions: a;b=\"\"\r\n"), status: 400, kind: KindExtensions},
	{name: "quoted value that is no token", in: plus("Sec-WebSocket-Extensions: a;b=\"c d\"\r\n"), status: 400, kind: KindExtensions},
	{name: "escaped quote", in: plus("Sec-WebSocket-Extensions: a;b=\"\\\"\"\r\n"), status: 400, kind: KindExtensions},
	{name: "open quote", in: plus("Sec-WebSocket-Extensions: a;b=\"c\r\n"), status: 400, kind: KindExtensions},
	{name: "open escape", in: plus("Sec-WebSocket-Extensions: a;b=\"c\\\r\n"), status: 400, kind: KindExtensions},
	{name: "text after a quoted value", in: plus("Sec-WebSocket-Extensions: a;b=\"c\"d\r\n"), status: 400, kind: KindExtensions},

	// Origins: /echo has the default, /open allows all, /some has patterns.
	{name: "same origin", in: plus("Origin: https://example.com\r\n"), status: 101},
	{name: "same origin in other case", in: plus("Origin: https://EXAMPLE.com\r\n"), status: 101},
	{name: "same origin, the scheme's port in Host", in: strings.Replace(plus("Origin: https://example.com\r\n"), "Host: example.com", "Host: example.com:443", 1), status: 101},
	{name: "same origin, the scheme's port in Origin", in: plus("Origin: http://example.com:80\r\n"), status: 101},
	{name: "the other scheme's port", in: plus("Origin: https://example.com:80\r\n"), status: 403, kind: KindOrigin},
	{name: "same origin on a port", in: strings.Replace(plus("Origin: http://localhost:8000\r\n"), "example.com", "localhost:8000", 1), status: 101},
	{name: "other port", in: strings.Replace(plus("Origin: http://localhost:3000\r\n"), "example.com", "localhost:8000", 1), status: 403, kind: KindOrigin},
	{name: "other origin", in: plus("Origin: https://evil.example\r\n"), status: 403, kind: KindOrigin},
	{name: "origin that ends in ours", in: plus("Origin: https://evil-example.com\r\n"), status: 403, kind: KindOrigin},
	{name: "origin with ours as userinfo", in: plus("Origin: https://example.com@evil.example\r\n"), status: 403, kind: KindOrigin},
	{name: "opaque origin", in: plus("Origin: null\r\n"), status: 403, kind: KindOrigin},
	{name: "empty origin", in: plus("Origin:\r\n"), status: 403, kind: KindOrigin},
	{name: "origin without scheme", in: plus("Origin: example.com\r\n"), status: 403, kind: KindOrigin},
	{name: "origin with a path", in: plus("Origin: https://example.com/\r\n"), status: 403, kind: KindOrigin},
	{name: "two origins in one", in: plus("Origin: https://example.com https://evil.example\r\n"), status: 403, kind: KindOrigin},
	{name: "origin twice", in: plus("Origin: https://example.com\r\n", "Origin: https://evil.example\r\n"), status: 400, kind: KindDuplicate},
	{name: "any origin", in: strings.Replace(plus("Origin: https://evil.example\r\n"), "/echo", "/open", 1), status: 101},
	{name: "any origin, opaque", in: strings.Replace(plus("Origin: null\r\n"), "/echo", "/open", 1), status: 101},
	{name: "any origin, of a file", in: strings.Replace(plus("Origin: file://\r\n"), "/echo", "/open", 1), status: 101},
	{name: "any origin, malformed", in: strings.Replace(plus("Origin: nonsense\r\n"), "/echo", "/open", 1), status: 403, kind: KindOrigin},
	{name: "origin longer than a name", in: strings.Replace(plus("Origin: http://"+strings.Repeat("a", 600)+"\r\n"), "/echo", "/open", 1), status: 403, kind: KindOrigin},
	{name: "pattern of a host", in: strings.Replace(plus("Origin: https://A.Example.ORG\r\n"), "/echo", "/some", 1), status: 101},
	{name: "pattern of a host, its port", in: strings.Replace(plus("Origin: https://a.example.org:8443\r\n"), "/echo", "/some", 1), status: 403, kind: KindOrigin},
	{name: "pattern of a host, the name itself", in: strings.Replace(plus("Origin: https://example.org\r\n"), "/echo", "/some", 1), status: 403, kind: KindOrigin},
	{name: "pattern with a scheme", in: strings.Replace(plus("Origin: https://app.example.net:8443\r\n"), "/echo", "/some", 1), status: 101},
	{name: "pattern with another scheme", in: strings.Replace(plus("Origin: http://app.example.net:8443\r\n"), "/echo", "/some", 1), status: 403, kind: KindOrigin},
	{name: "pattern of an app", in: strings.Replace(plus("Origin: capacitor://localhost\r\n"), "/echo", "/some", 1), status: 101},
	{name: "pattern of an IPv6 host", in: strings.Replace(plus("Origin: http://[::1]:3000\r\n"), "/echo", "/some", 1), status: 101},
	{name: "pattern of the opaque origin", in: strings.Replace(plus("Origin: null\r\n"), "/echo", "/some", 1), status: 101},

	// What Accept says.
	{name: "accepted", in: sub("/echo", "/ask?user=ann"), status: 101},
	{name: "refused with a fault", in: sub("/echo", "/ask?user=bob"), status: 401, kind: "unauthorized"},
	{name: "refused with a bare fault", in: sub("/echo", "/ask?user=eve"), status: 302, kind: KindRefused},
	{name: "failed", in: sub("/echo", "/ask?user=mallory"), status: 500, kind: KindInternal},
	{name: "failed with a fault of nil", in: sub("/echo", "/ask?user=nil"), status: 500, kind: KindInternal},
	{name: "not asked of another origin", in: strings.Replace(plus("Origin: https://evil.example\r\n"), "/echo", "/ask?user=ann", 1), status: 403, kind: KindOrigin},
}

var errMallory = errors.New("the database says no")

// ask is the Accept of /ask.
func ask(r *Request) (any, error) {
	switch user := r.Query().Get("user"); user {
	case "bob":
		return nil, &Fault{
			Status: 401, Kind: "unauthorized", Reason: "no token",
			Header: []Field{{"WWW-Authenticate", "Bearer"}},
		}
	case "eve":
		return nil, &Fault{Status: 302, Header: []Field{{"Location", "https://example.com/login"}}}
	case "mallory":
		return nil, errMallory
	case "nil":
		return nil, (*Fault)(nil)
	default:
		return user, nil
	}
}

func testConfig() Config {
	return Config{
		Routes: []Route{
			{Path: "/echo", Subprotocols: []string{"one", "two"}, Value: "the echo"},
			{Path: "/open", AllowedOrigins: []string{"*"}},
			{Path: "/some", AllowedOrigins: []string{
				"*.Example.org", "https://app.example.net:*", "capacitor://localhost", "[::1]:3000", "null",
			}},
			{Path: "/ask", Accept: ask},
		},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
	}
}

func mustNew(tb testing.TB, c Config) *Upgrader {
	tb.Helper()
	u, err := New(c)
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

var somePeer = netip.MustParseAddrPort("192.0.2.7:5000")
