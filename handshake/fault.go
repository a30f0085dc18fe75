package handshake

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Kind names why a handshake was refused. It is what the metric's label, the log's
// reason and the tests say. The kinds here are all that this package produces;
// an Accept may use kinds of its own.
type Kind string

// The kinds of faults.
const (
	KindRequestLine  Kind = "request_line"
	KindURITooLong   Kind = "uri_too_long"
	KindHTTPVersion  Kind = "http_version"
	KindMethod       Kind = "method"
	KindHeader       Kind = "header"
	KindTooLarge     Kind = "header_too_large"
	KindTimeout      Kind = "header_timeout"
	KindDuplicate    Kind = "duplicate_header"
	KindBody         Kind = "body"
	KindHost         Kind = "host"
	KindUpgrade      Kind = "upgrade"
	KindConnection   Kind = "connection"
	KindVersion      Kind = "version"
	KindKey          Kind = "key"
	KindSubprotocol  Kind = "subprotocol"
	KindExtensions   Kind = "extensions"
	KindPath         Kind = "path"
	KindOrigin       Kind = "origin"
	KindRefused      Kind = "refused" // by Accept, with a Fault that has no kind
	KindInternal     Kind = "internal"
	KindOverloaded   Kind = "overloaded"
	KindShuttingDown Kind = "shutting_down"
)

// Field is one field of a response's header.
type Field struct{ Name, Value string }

// Fault is a refused handshake: an error that knows its HTTP response. A Fault must
// not be changed once it is in use; those of this package are shared by all.
type Fault struct {
	// Status is the response's status code, from 300 to 599. Anything else, and 304,
	// which has no body, counts as 500.
	Status int
	// Kind is the metric's label; the number of different kinds must be bounded.
	Kind Kind
	// Reason is the response's body, without the newline. Empty means the status
	// code's own phrase. It is plain text and the client's to read.
	Reason string
	// Header is added to the response: Retry-After, WWW-Authenticate, Location. A
	// field that is not well-formed, or that AppendResponse writes by itself, is left
	// out.
	Header []Field

	cause error
}

// The faults of this package.
var (
	ErrBadRequestLine = &Fault{Status: 400, Kind: KindRequestLine, Reason: "malformed request line"}
	ErrURITooLong     = &Fault{Status: 414, Kind: KindURITooLong, Reason: "request line too long"}
	// RFC 6455 §4.2.1: "An HTTP/1.1 or higher GET request".
	ErrHTTPVersion = &Fault{Status: 505, Kind: KindHTTPVersion, Reason: "a WebSocket handshake needs HTTP/1.1"}
	ErrMethod      = &Fault{
		Status: 405, Kind: KindMethod, Reason: "a WebSocket handshake is a GET request",
		Header: []Field{{"Allow", "GET"}},
	}
	ErrBadHeader       = &Fault{Status: 400, Kind: KindHeader, Reason: "malformed request header"}
	ErrHeaderTooLarge  = &Fault{Status: 431, Kind: KindTooLarge, Reason: "request header too large"}
	ErrHeaderTimeout   = &Fault{Status: 408, Kind: KindTimeout, Reason: "the request header did not arrive in time"}
	ErrDuplicateHeader = &Fault{Status: 400, Kind: KindDuplicate, Reason: "a header field that may come only once came twice"}
	ErrBody            = &Fault{Status: 400, Kind: KindBody, Reason: "a WebSocket handshake has no body"}
	ErrBadHost         = &Fault{Status: 400, Kind: KindHost, Reason: "missing or malformed Host header"}
	// RFC 9110 §15.5.22: "The server MUST send an Upgrade header field in a 426
	// response to indicate the required protocol(s)".
	ErrUpgradeMissing = &Fault{
		Status: 426, Kind: KindUpgrade, Reason: "this is a WebSocket endpoint: the Upgrade header is missing",
		Header: []Field{{"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}},
	}
	ErrBadUpgrade    = &Fault{Status: 400, Kind: KindUpgrade, Reason: "the Upgrade header does not name websocket"}
	ErrBadConnection = &Fault{Status: 400, Kind: KindConnection, Reason: "the Connection header does not name Upgrade"}
	// RFC 6455 §4.2.2: "If this version does not match a version understood by the
	// server, the server MUST abort the WebSocket handshake described in this section
	// and instead send an appropriate HTTP error code (such as 426 Upgrade Required)
	// and a |Sec-WebSocket-Version| header field indicating the version(s) the server
	// is capable of understanding."
	ErrVersion = &Fault{
		Status: 426, Kind: KindVersion, Reason: "the WebSocket version must be 13",
		Header: []Field{{"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}},
	}
	// RFC 6455 §4.2.1 asks for "A |Sec-WebSocket-Version| header field, with a value
	// of 13"; without the field there is no version to match, and the request is one
	// that "does not match the description": "such as 400 Bad Request". The versions
	// are told all the same.
	ErrVersionMissing = &Fault{
		Status: 400, Kind: KindVersion, Reason: "missing Sec-WebSocket-Version header",
		Header: []Field{{"Sec-WebSocket-Version", "13"}},
	}
	ErrBadKey         = &Fault{Status: 400, Kind: KindKey, Reason: "Sec-WebSocket-Key must be 16 bytes in base64"}
	ErrBadSubprotocol = &Fault{Status: 400, Kind: KindSubprotocol, Reason: "malformed Sec-WebSocket-Protocol header"}
	ErrBadExtensions  = &Fault{Status: 400, Kind: KindExtensions, Reason: "malformed Sec-WebSocket-Extensions header"}
	// RFC 6455 §4.2.2: "If the requested service is not available, the server MUST
	// send an appropriate HTTP error code (such as 404 Not Found) and abort the
	// WebSocket handshake."
	ErrPath     = &Fault{Status: 404, Kind: KindPath, Reason: "no WebSocket endpoint at this path"}
	ErrOrigin   = &Fault{Status: 403, Kind: KindOrigin, Reason: "origin not allowed"}
	ErrInternal = &Fault{Status: 500, Kind: KindInternal, Reason: "internal error"}
	// A server that wants another Retry-After makes its own Fault.
	ErrOverloaded = &Fault{
		Status: 503, Kind: KindOverloaded, Reason: "too many connections",
		Header: []Field{{"Retry-After", "5"}},
	}
	ErrShuttingDown = &Fault{
		Status: 503, Kind: KindShuttingDown, Reason: "shutting down",
		Header: []Field{{"Retry-After", "1"}},
	}
)

// TooLarge returns the fault for a header that is larger than it may be and of
// which b came: the request line alone, or all of it.
func TooLarge(b []byte) *Fault {
	// RFC 9112 §3: "A server that receives a request-target longer than any URI it
	// wishes to parse MUST respond with a 414 (URI Too Long) status code."
	if bytes.IndexByte(b, '\n') < 0 {
		return ErrURITooLong
	}
	return ErrHeaderTooLarge
}

// Error returns the reason with the status code.
func (f *Fault) Error() string {
	return "handshake: " + strconv.Itoa(f.status()) + " " + f.reason()
}

// Unwrap returns the error of the Accept that led to a 500, or nil. It is for the
// log; the client does not see it.
func (f *Fault) Unwrap() error { return f.cause }

func (f *Fault) status() int {
	if f.Status < 300 || f.Status > 599 || f.Status == http.StatusNotModified {
		return http.StatusInternalServerError
	}
	return f.Status
}

func (f *Fault) reason() string {
	if f.Reason == "" {
		return http.StatusText(f.status())
	}
	return f.Reason
}

// AppendResponse appends the whole HTTP/1.1 response to dst. The connection is to
// be closed after it.
func (f *Fault) AppendResponse(dst []byte) []byte {
	body := f.reason()
	dst = f.appendHeader(dst, len(body)+1)
	dst = append(dst, body...)
	return append(dst, '\n')
}

// appendHeader appends the response up to its body of length bytes.
func (f *Fault) appendHeader(dst []byte, length int) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(f.status()), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(f.status())...)
	// RFC 9110 §6.6.1: "An origin server with a clock ... MUST generate a Date header
	// field in all 2xx (Successful), 3xx (Redirection), and 4xx (Client Error)
	// responses".
	dst = append(dst, "\r\nDate: "...)
	dst = time.Now().UTC().AppendFormat(dst, http.TimeFormat)
	dst = append(dst, "\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(length), 10)
	connection := "\r\nConnection: close"
	for _, field := range f.Header {
		if !field.fit() {
			continue
		}
		if strings.EqualFold(field.Name, "Upgrade") {
			// RFC 9110 §7.8: "A sender of Upgrade MUST also send an 'Upgrade'
			// connection option in the Connection header field".
			connection = "\r\nConnection: close, Upgrade"
		}
		dst = append(dst, "\r\n"...)
		dst = append(dst, field.Name...)
		dst = append(dst, ": "...)
		dst = append(dst, field.Value...)
	}
	dst = append(dst, connection...)
	return append(dst, "\r\n\r\n"...)
}

// fit reports whether the field may be added to a response: it must not end its own
// line, nor contradict what the response says of itself.
func (f Field) fit() bool {
	for _, own := range ownFields {
		if strings.EqualFold(f.Name, own) {
			return false
		}
	}
	return isToken([]byte(f.Name)) && allOctets([]byte(f.Value), valueOctet)
}

var ownFields = [...]string{
	"Connection", "Content-Length", "Content-Type", "Date", "Transfer-Encoding", "X-Content-Type-Options",
}
