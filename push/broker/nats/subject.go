package nats

import (
	"hash/fnv"
	"strconv"
	"strings"
)

// What is sent has one of these subjects, behind the prefix:
//
//	h.GROUP.CHANNEL   publications of a channel with history: in the group's stream, which keeps so many of each subject
//	t.GROUP.SLOT      what passes by the histories but keeps its place among them, claims of idempotency keys, and anchors; in the same stream
//	v.GROUP.CHANNEL   the latest version of a channel without history; in the same stream
//	p.PARTITION       publications of channels without history, in no stream
const (
	kindHistory   = "h"
	kindTransient = "t"
	kindVersion   = "v"
	kindPartition = "p"
)

// slots is the number of subjects of a group among which what passes by the histories is spread, so that the bound of one is not theirs.
const slots = 256

// hash is the same on all nodes, in all versions.
func hash(channel string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(channel))
	x := h.Sum64() // whose upper bits depend little on the last letters
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	return x ^ x>>33
}

const hexDigits = "0123456789ABCDEF"

// escape makes a channel's name a token of a subject. Letters, digits and most signs stay as they are.
func escape(channel string) string {
	plain := func(c byte) bool { return c > ' ' && c < 0x7f && c != '.' && c != '*' && c != '>' && c != '%' }
	n := 0
	for i := range len(channel) {
		if !plain(channel[i]) {
			n++
		}
	}
	if n == 0 {
		return channel
	}
	var b strings.Builder
	b.Grow(len(channel) + 2*n)
	for i := range len(channel) {
		if c := channel[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

// unescape returns the channel of a token. It reports false for one that escape does not make.
func unescape(token string) (string, bool) {
	if !strings.Contains(token, "%") {
		return strings.Clone(token), token != ""
	}
	b := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		if token[i] != '%' {
			b = append(b, token[i])
			continue
		}
		if i+2 >= len(token) {
			return "", false
		}
		c, err := strconv.ParseUint(token[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b = append(b, byte(c))
		i += 2
	}
	return string(b), true
}

func subjectOf(prefix, kind string, n int, rest string) string {
	s := prefix + "." + kind + "." + strconv.Itoa(n)
	if rest != "" {
		s += "." + rest
	}
	return s
}

// cutSubject returns the kind and the last token of a subject of a group's stream.
func cutSubject(subject, prefix string) (kind, rest string, ok bool) {
	subject, ok = strings.CutPrefix(subject, prefix+".")
	if !ok {
		return "", "", false
	}
	kind, subject, ok = strings.Cut(subject, ".")
	if !ok {
		return "", "", false
	}
	_, rest, ok = strings.Cut(subject, ".")
	return kind, rest, ok
}

// channelOf returns the channel with history that a subject is of.
func channelOf(subject, prefix string) (string, bool) {
	kind, token, _ := cutSubject(subject, prefix)
	if kind != kindHistory {
		return "", false
	}
	return unescape(token)
}
