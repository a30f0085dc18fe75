package bench

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// This file is the client's side of the opening handshake, RFC 6455 §4.1.

var errHandshake = errors.New("the opening handshake was not answered as it must be")

// clientKey is 16 bytes, as RFC 6455 §4.1 wants; it need not be secret for a benchmark.
var clientKey = base64.StdEncoding.EncodeToString([]byte("millpond's bench"))

// acceptKey is the Sec-WebSocket-Accept that proves that the server understood, RFC 6455 §4.2.2.
func acceptKey() []byte {
	sum := sha1.Sum([]byte(clientKey + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return []byte(base64.StdEncoding.EncodeToString(sum[:]))
}

// appendRequest adds the request to b. subprotocol may be empty. A Host among the headers wins over host.
func appendRequest(b []byte, host, path, subprotocol string, headers ...string) []byte {
	for i, h := range headers {
		if name, value, _ := strings.Cut(h, ":"); strings.EqualFold(name, "host") {
			host, headers = strings.TrimSpace(value), slices.Delete(slices.Clone(headers), i, i+1)
			break
		}
	}
	b = fmt.Appendf(b, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n", path, host, clientKey)
	if subprotocol != "" {
		b = fmt.Appendf(b, "Sec-WebSocket-Protocol: %s\r\n", subprotocol)
	}
	for _, h := range headers {
		b = append(append(b, h...), "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// opening collects the response.
type opening struct {
	header *[]byte // while it is incomplete
}

// take returns the response's header, nil while it is not all there, and what follows it. Both are valid as long as b
// is.
func (o *opening) take(b []byte) (head, rest []byte, err error) {
	if o.header != nil {
		*o.header = append(*o.header, b...)
		b = *o.header
	}
	head, rest, whole := bytes.Cut(b, []byte("\r\n\r\n"))
	if whole {
		o.header = nil
		return head, rest, nil
	}
	if o.header == nil {
		o.header = &[]byte{}
		*o.header = append(*o.header, b...)
	}
	if len(b) > 16<<10 {
		return nil, nil, errHandshake
	}
	return nil, nil, nil
}

// accepted says whether the header is that of a WebSocket that opens: RFC 6455 §4.1. A status that is not 101 is a
// *refusal.
func accepted(head, accept []byte) error {
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	proto, rest, _ := bytes.Cut(line, []byte(" "))
	code, _, _ := bytes.Cut(rest, []byte(" "))
	status, err := strconv.Atoi(string(code))
	switch {
	case !bytes.HasPrefix(proto, []byte("HTTP/1.")) || err != nil || status < 100 || status > 999:
		return fmt.Errorf("%w: %.60q", errHandshake, line)
	case status != http.StatusSwitchingProtocols:
		return &refusal{status, header(head, "Retry-After") != nil}
	case !bytes.Equal(header(head, "Sec-WebSocket-Accept"), accept):
		return fmt.Errorf("%w: Sec-WebSocket-Accept is wrong", errHandshake)
	case !strings.EqualFold(string(header(head, "Upgrade")), "websocket"):
		return fmt.Errorf("%w: Upgrade is not websocket", errHandshake)
	case len(header(head, "Sec-WebSocket-Extensions")) > 0: // the load speaks none
		return fmt.Errorf("%w: an extension that nobody asked for: %.60q", errHandshake, header(head, "Sec-WebSocket-Extensions"))
	}
	return nil
}

// header returns a field's value, nil if it is not there.
func header(head []byte, name string) []byte {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		field, value, ok := bytes.Cut(line, []byte(":"))
		if ok && len(field) == len(name) && strings.EqualFold(string(field), name) {
			return bytes.TrimSpace(value)
		}
	}
	return nil
}
