package tap

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/session"
)

// Redaction says what of a connection is shown.
type Redaction struct {
	// PayloadBytes is how many bytes of each message are shown, and of each control frame; Whole shows all.
	PayloadBytes int
	Whole        bool
	// Secrets shows what in opening requests looks like one.
	Secrets bool
}

// redacted stands for what is not shown.
const redacted = "[redacted]"

// filler stands in a capture for each byte that is not shown.
const filler = 'x'

// show returns what of b is shown.
func (r Redaction) show(b []byte) []byte {
	if r.Whole || len(b) <= r.PayloadBytes {
		return b
	}
	return b[:r.PayloadBytes]
}

// of is the redaction for a frame: those that go on with a message show nothing more of it.
func (r Redaction) of(op session.Opcode) Redaction {
	if op == codec.OpContinuation {
		r.PayloadBytes = 0
	}
	return r
}

// cover returns b, the payload of a frame without its mask, with what is not shown replaced. A close code always is. b
// may be changed.
func (r Redaction) cover(b []byte, isClose bool) []byte {
	from := len(r.show(b))
	if isClose {
		from = max(from, min(2, len(b)))
	}
	for i := from; i < len(b); i++ {
		b[i] = filler
	}
	return b
}

// secretName matches the names of header fields and of parameters of a query whose values nobody else is to see.
var secretName = regexp.MustCompile(`(?i)token|secret|passw|auth|cookie|jwt|session|credential|signature|ticket|(^|[-_])(api[-_]?)?key$|^sig$|^` + inspectParam + `$`)

// notSecret are fields that secretName would match and that a capture cannot do without.
var notSecret = map[string]bool{"sec-websocket-key": true}

// maxProtocol is how long a subprotocol may be to be taken for one, and not for a token that is handed over in its place.
const maxProtocol = 40

// opening returns a request's or a response's header without secrets. It is returned as it is if they are shown.
func (r Redaction) opening(head []byte) []byte {
	if r.Secrets {
		return head
	}
	var out bytes.Buffer
	hidden := false // the field that a line may go on with
	for i, line := range bytes.SplitAfter(head, []byte("\n")) {
		out.WriteString(redactLine(string(line), i == 0, &hidden))
	}
	return out.Bytes()
}

// redactLine returns a line of a header without secrets. hidden says of the field before, and then of this one, that it is not shown: a line may
// go on with the one before (RFC 9112 §5.2).
func redactLine(line string, first bool, hidden *bool) string {
	name, value, found := strings.Cut(line, ":")
	lower := strings.ToLower(strings.TrimSpace(name))
	switch {
	case first:
		return redactTarget(line)
	case strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"):
		if *hidden {
			return " " + redacted + "\r\n"
		}
		return redactTarget(line)
	case !found:
		return line
	}
	*hidden = false
	switch {
	case notSecret[lower]:
		return line
	case lower == "sec-websocket-protocol":
		return name + ": " + redactProtocols(value) + "\r\n"
	case secretName.MatchString(lower):
		*hidden = true
		return name + ": " + redacted + "\r\n"
	}
	return name + ":" + redactTarget(value) // Referer, and what proxies say of the address that was asked for
}

// redactTarget replaces the secrets in the query of a request line, or of an address.
func redactTarget(line string) string {
	before, query, found := strings.Cut(line, "?")
	if !found {
		return line
	}
	after := ""
	if i := strings.IndexAny(query, " \r\n"); i >= 0 {
		query, after = query[:i], query[i:]
	}
	params := strings.Split(query, "&")
	for i, p := range params {
		// A name may be written with percents, so that secretName would not know it.
		switch name, value, found := strings.Cut(p, "="); {
		case !found:
		case secretName.MatchString(name) || strings.Contains(name, "%"):
			params[i] = name + "=" + redacted
		default:
			params[i] = name + "=" + redactTarget(value) // it may be an address with a query of its own
		}
	}
	return before + "?" + strings.Join(params, "&") + after
}

func redactProtocols(list string) string {
	protocols := strings.Split(strings.TrimSpace(list), ",")
	for i, p := range protocols {
		if p = strings.TrimSpace(p); len(p) > maxProtocol {
			p = redacted
		}
		protocols[i] = p
	}
	return strings.Join(protocols, ", ")
}
