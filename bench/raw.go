package bench

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Raw is a protocol of the user's: what the connections send, and what counts. Texts have the placeholders {n} for the
// number of the connection, from 0, {i} for that of its message, from 0, {token} and {pad}, which fills the message up
// to the size; and the escapes \n, \r, \t, \\ and \xHH.
type Raw struct {
	// Open is sent when the connection is open. Empty sends nothing.
	Open string
	// Ready is a regular expression: the connection is ready when a message has it. Empty means when it is open.
	Ready string
	// Message is what is sent then, by scenarios that send.
	Message string
	// Count is a text, CountRegexp a regular expression: messages that have it are answers. Neither means all.
	Count       string
	CountRegexp string
	// Answers are PATTERN=REPLY: a message that has the pattern, a regular expression, is answered so and never counted.
	// It is what a server's own pings need.
	Answers []string
	// Binary sends binary messages, not text.
	Binary bool
}

func (r Raw) isZero() bool {
	return r.Open+r.Ready+r.Message+r.Count+r.CountRegexp == "" && len(r.Answers) == 0 && !r.Binary
}

func (r Raw) validate(p Protocol) error {
	if p != ProtocolRaw {
		if !r.isZero() {
			return errors.New("--raw-…: they are for --protocol raw")
		}
		return nil
	}
	_, err := r.compile(0)
	return err
}

// raw is a Raw that can be used.
type raw struct {
	open, message template
	count         template
	ready         *regexp.Regexp // nil without
	countRegexp   *regexp.Regexp // nil without
	answers       []rawAnswer
	text          bool
	size          int
}

type rawAnswer struct {
	pattern *regexp.Regexp
	frame   []byte
}

func (r Raw) compile(size int) (*raw, error) {
	var errs []error
	parse := func(flag, s string) template {
		t, err := parseTemplate(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", flag, err))
		}
		return t
	}
	compile := func(flag, s string) *regexp.Regexp {
		if s == "" {
			return nil
		}
		re, err := regexp.Compile(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", flag, err))
		}
		return re
	}
	out := &raw{
		open: parse("raw-open", r.Open), message: parse("raw-message", r.Message), count: parse("raw-count", r.Count),
		ready: compile("raw-ready", r.Ready), countRegexp: compile("raw-count-regexp", r.CountRegexp), text: !r.Binary, size: size,
	}
	if r.Count != "" && r.CountRegexp != "" {
		errs = append(errs, errors.New("--raw-count, --raw-count-regexp: one or the other"))
	}
	for _, a := range r.Answers {
		pattern, reply, ok := strings.Cut(a, "=")
		if !ok || pattern == "" {
			errs = append(errs, fmt.Errorf("--raw-answer %q: want PATTERN=REPLY", a))
			continue
		}
		t := parse("raw-answer", reply)
		out.answers = append(out.answers, rawAnswer{compile("raw-answer", pattern), maskedFrame(out.text, t.append(nil, fill{}))})
	}
	return out, errors.Join(errs...)
}

// answer returns the reply to a message that wants one.
func (r *raw) answer(payload []byte) ([]byte, bool) {
	for _, a := range r.answers {
		if a.pattern.Match(payload) {
			return a.frame, true
		}
	}
	return nil, false
}

// counts tells whether a message answers message i of connection n.
func (r *raw) counts(payload []byte, n, i int) bool {
	if r.countRegexp != nil {
		return r.countRegexp.Match(payload)
	}
	if len(r.count) == 0 {
		return true
	}
	return bytes.Contains(payload, r.count.append(nil, fill{n: n, i: i}))
}

// template is a text with placeholders.
type template []segment

// segment is a text, or a placeholder if that is empty.
type segment struct {
	text        []byte
	placeholder string
}

// fill is what placeholders stand for.
type fill struct {
	n, i  int
	token string
	size  int
}

var placeholders = regexp.MustCompile(`\{(n|i|token|pad)\}`)

// parseTemplate reads placeholders and escapes.
func parseTemplate(s string) (template, error) {
	t := newTemplate(s)
	for i := range t {
		var err error
		if t[i].text, err = unescape(string(t[i].text)); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// newTemplate reads placeholders alone.
func newTemplate(s string) (t template) {
	for s != "" {
		at := placeholders.FindStringIndex(s)
		if at == nil {
			at = []int{len(s), len(s)}
		}
		if at[0] > 0 {
			t = append(t, segment{text: []byte(s[:at[0]])})
		}
		if at[0] < at[1] {
			t = append(t, segment{placeholder: s[at[0]+1 : at[1]-1]})
		}
		s = s[at[1]:]
	}
	return t
}

func unescape(s string) (b []byte, err error) {
	for s != "" {
		plain, rest, found := strings.Cut(s, `\`)
		b = append(b, plain...)
		if s = rest; !found {
			return b, nil
		}
		switch {
		case strings.HasPrefix(s, "n"):
			b, s = append(b, '\n'), s[1:]
		case strings.HasPrefix(s, "r"):
			b, s = append(b, '\r'), s[1:]
		case strings.HasPrefix(s, "t"):
			b, s = append(b, '\t'), s[1:]
		case strings.HasPrefix(s, `\`):
			b, s = append(b, '\\'), s[1:]
		case strings.HasPrefix(s, "x") && len(s) >= 3:
			c, err := strconv.ParseUint(s[1:3], 16, 8)
			if err != nil {
				return nil, fmt.Errorf(`\%s: want two hexadecimal digits after \x`, s[:3])
			}
			b, s = append(b, byte(c)), s[3:]
		default:
			return nil, fmt.Errorf(`\%.1s: want \n, \r, \t, \\ or \xHH`, s)
		}
	}
	return b, nil
}

// has tells whether a placeholder is in it.
func (t template) has(placeholder string) bool {
	for _, s := range t {
		if s.placeholder == placeholder {
			return true
		}
	}
	return false
}

// append adds the text to b, with what placeholders stand for.
func (t template) append(b []byte, f fill) []byte {
	begin, pad := len(b), -1
	for _, s := range t {
		switch s.placeholder {
		case "":
			b = append(b, s.text...)
		case "n":
			b = strconv.AppendInt(b, int64(f.n), 10)
		case "i":
			b = strconv.AppendInt(b, int64(f.i), 10)
		case "token":
			b = append(b, f.token...)
		case "pad":
			pad = len(b)
		}
	}
	if missing := f.size - (len(b) - begin); pad >= 0 && missing > 0 {
		b = append(b, make([]byte, missing)...)
		copy(b[pad+missing:], b[pad:])
		for i := range missing {
			b[pad+i] = 'm'
		}
	}
	return b
}
