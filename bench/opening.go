package bench

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
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

// appendRequest adds the request to b. subprotocol may be empty.
func appendRequest(b []byte, host, path, subprotocol string) []byte {
	b = fmt.Appendf(b, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n", path, host, clientKey)
	if subprotocol != "" {
		b = fmt.Appendf(b, "Sec-WebSocket-Protocol: %s\r\n", subprotocol)
	}
	return append(b, "\r\n"...)
}

// opening collects the response.
type opening struct {
	header *[]byte // while it is incomplete
}

// take returns the response's header, nil while it is not all there, and what follows it. Both are valid as long as b is.
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

// accepted says whether the header is that of a WebSocket that opens.
func accepted(head, accept []byte) error {
	if bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) && bytes.Contains(head, accept) {
		return nil
	}
	status, _, _ := bytes.Cut(head, []byte("\r\n"))
	return fmt.Errorf("%w: %.60q", errHandshake, status)
}
