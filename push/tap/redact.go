package tap

import (
	"bytes"
	"regexp"
	"strings"
)

// Redaction says what of a connection is shown.
type Redaction struct {
	// PayloadBytes is how many bytes of each payload are shown; Whole shows all.
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
var secretName = regexp.MustCompile(`(?i)token|secret|passw|auth|cookie|jwt|session|credential|signature|ticket|(^|[-_])(api[-_]?)?key$|^sig$`)

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
	for i, line := range bytes.SplitAfter(head, []byte("\r\n")) {
		if i == 0 {
			out.WriteString(redactTarget(string(line)))
			continue
		}
		name, value, found := strings.Cut(string(line), ":")
		switch lower := strings.ToLower(name); {
		case !found || notSecret[lower]:
		case lower == "sec-websocket-protocol":
			line = []byte(name + ": " + redactProtocols(value) + "\r\n")
		case lower == "referer":
			line = []byte(name + ":" + redactTarget(value))
		case secretName.MatchString(name):
			line = []byte(name + ": " + redacted + "\r\n")
		}
		out.Write(line)
	}
	return out.Bytes()
}

// redactTarget replaces the secrets in the query of a request line, or of an address.
func redactTarget(line string) string {
	before, query, found := strings.Cut(line, "?")
	if !found {
		return line
	}
	after := ""
	if i := strings.IndexAny(query, " \r#"); i >= 0 {
		query, after = query[:i], query[i:]
	}
	params := strings.Split(query, "&")
	for i, p := range params {
		// A name may be written with percents, so that secretName would not know it.
		if name, _, found := strings.Cut(p, "="); found && (secretName.MatchString(name) || strings.Contains(name, "%")) {
			params[i] = name + "=" + redacted
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
