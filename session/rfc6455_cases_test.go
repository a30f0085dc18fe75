package session

import (
	"fmt"
	"slices"
	"strings"

	"github.com/millpond/millpond/codec"
)

// wireCase is a conversation: what a client sends after its opening handshake, and all that has to come back until the
// server ends its side of TCP.
type wireCase struct {
	name      string
	path      string
	send      []byte   // up to the byte with which everything is decided, so that nothing else needs to come
	late      []byte   // what may come after it and is of no consequence
	halfClose bool     // the client ends its side behind it, without a close frame
	want      []string // the frames that come back
	fault     string   // its label, where there is one
	why       Status   // what OnClose is told

	inline     bool // only where the handler has run before the next frame is read
	fragmented bool // one of many that are split by fragments already, so that few splits by reads will do
}

// stream is all that the client sends.
func (c wireCase) stream() []byte { return slices.Concat(c.send, c.late) }

// at puts the conversation to another endpoint; each path has a limit to its messages.
func (c wireCase) at(path string) wireCase {
	c.path = path
	return c
}

// then adds what has to be ignored.
func (c wireCase) then(late ...[]byte) wireCase {
	c.late = slices.Concat(late...)
	return c
}

// goesOn is a stream without a fault, after which the connection still serves, until the client closes it.
func goesOn(name string, send []byte, want ...string) wireCase {
	c := byHand{}
	return wireCase{
		name: name, path: "/echo", send: slices.Concat(send, c.ping("still there?"), c.close(1000, "bye")),
		want: append(slices.Clone(want), "pong still there?", "close 1000"),
		why:  Status{Reason: ReasonClientClose, Code: 1000, Text: "bye"},
	}
}

// stops is a stream that ends where more would have to come: no frame comes back for what is unfinished.
func stops(name string, send []byte, want ...string) wireCase {
	return wireCase{
		name: name, path: "/echo", send: send, halfClose: true, want: want,
		why: Status{Reason: ReasonPeerGone, Code: codec.StatusAbnormal},
	}
}

// closes is a stream whose last frame is a close frame with that code, or without one if it is 1005.
func closes(name string, send []byte, code CloseCode, reason string, want ...string) wireCase {
	answer := fmt.Sprintf("close %d", code)
	if code == codec.StatusNoStatus {
		answer = "close"
	}
	return wireCase{
		name: name, path: "/echo", send: send, want: append(slices.Clone(want), answer),
		why: Status{Reason: ReasonClientClose, Code: code, Text: reason},
	}
}

// serverCloses is a stream that makes the server close first, and answers that.
func serverCloses(name string, send []byte, fault string, want ...string) wireCase {
	return wireCase{
		name: name, path: "/echo", send: send, want: append(slices.Clone(want), "close 4000 go away"), fault: fault, inline: true,
		why: Status{Reason: ReasonServerClose, Code: 4000, Text: "go away"},
	}
}

// failures are the answers to the faults of a client.
var failures = map[string]Status{
	"reserved_bits":           {Reason: ReasonProtocolError, Code: 1002, Text: "reserved bits set"},
	"reserved_opcode":         {Reason: ReasonProtocolError, Code: 1002, Text: "reserved opcode"},
	"control_fragmented":      {Reason: ReasonProtocolError, Code: 1002, Text: "fragmented control frame"},
	"continuation_unexpected": {Reason: ReasonProtocolError, Code: 1002, Text: "continuation of nothing"},
	"continuation_missing":    {Reason: ReasonProtocolError, Code: 1002, Text: "expected a continuation frame"},
	"mask_missing":            {Reason: ReasonProtocolError, Code: 1002, Text: "frame is not masked"},
	"control_too_long":        {Reason: ReasonProtocolError, Code: 1002, Text: "control frame longer than 125 bytes"},
	"length_msb":              {Reason: ReasonProtocolError, Code: 1002, Text: "payload length exceeds 63 bits"},
	"length_not_minimal":      {Reason: ReasonProtocolError, Code: 1002, Text: "payload length is not minimally encoded"},
	"message_too_big":         {Reason: ReasonMessageTooBig, Code: 1009, Text: "message too big"},
	"invalid_utf8":            {Reason: ReasonInvalidData, Code: 1007, Text: "text is not UTF-8"},
	"close_payload_short":     {Reason: ReasonProtocolError, Code: 1002, Text: "close frame with one byte"},
	"close_code_invalid":      {Reason: ReasonProtocolError, Code: 1002, Text: "invalid close code"},
	"close_reason_invalid":    {Reason: ReasonInvalidData, Code: 1007, Text: "close reason is not UTF-8"},
}

// fails is a stream whose last byte shows the fault. What comes after it is ignored.
func fails(name, fault string, send []byte, want ...string) wireCase {
	why, ok := failures[fault]
	if !ok {
		panic("no such fault: " + fault)
	}
	c := byHand{}
	return wireCase{
		name: name, path: "/echo", send: send, late: slices.Concat(c.text("late"), c.ping("late"), c.close(1000, "")),
		want: append(slices.Clone(want), fmt.Sprintf("close %d %s", why.Code, why.Text)), fault: fault, why: why,
	}
}

// wireCases are the groups that the public conformance suites have, without compression.
var wireCases = slices.Concat(
	framingConversations(), pingConversations(), reservedConversations(), fragmentConversations(),
	utf8Conversations(), closeConversations(), maskAndLengthConversations(), limitConversations(), longConversations(),
)

// framingConversations are whole messages of the lengths around which the encoding changes.
func framingConversations() (list []wireCase) {
	c := byHand{}
	for _, n := range []int{0, 1, 124, 125, 126, 127, 128, 65535, 65536} {
		s, b := strings.Repeat("*", n), strings.Repeat("\xFE", n)
		list = append(list,
			goesOn(fmt.Sprintf("text of %d", n), c.text(s), "text "+s),
			goesOn(fmt.Sprintf("binary of %d", n), c.binary(b), "binary "+b),
		)
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return append(list,
		goesOn("nothing", nil),
		goesOn("all bytes", c.binary(string(all)), "binary "+string(all)),
		goesOn("two messages", join(c.text("one"), c.binary("two")), "text one", "binary two"),
		goesOn("sixteen messages", slices.Repeat(c.text("again"), 16), slices.Repeat([]string{"text again"}, 16)...),
		goesOn("mask of zeros", []byte{0x81, 0x82, 0, 0, 0, 0, 'h', 'i'}, "text hi"),
		goesOn("another mask for each fragment", []byte{0x01, 0x81, 1, 2, 3, 4, 'h' ^ 1, 0x80, 0x81, 5, 6, 7, 8, 'i' ^ 5}, "text hi"),
		stops("no frame", nil),
		stops("first byte", []byte{0x81}),
		stops("header without its mask", c.text("Hello")[:5]),
		stops("16-bit length in half", c.text(strings.Repeat("l", 300))[:3]),
		stops("64-bit length in half", c.binary(strings.Repeat("l", 65536))[:6]),
		stops("payload without its end", c.text("Hello")[:8]),
		stops("ping without its end", c.ping("Hello")[:8]),
		stops("close frame without its end", c.close(1000, "")[:7]),
		stops("message, then the half of one", join(c.text("a"), c.text("b")[:4]), "text a"),
		stops("message, and no close frame", c.text("a"), "text a"),
	)
}

// pingConversations are pings and pongs outside of fragmented messages.
func pingConversations() []wireCase {
	c := byHand{}
	full := strings.Repeat("\xFE", 125)
	return []wireCase{
		goesOn("ping", c.ping(""), "pong "),
		goesOn("ping with text", c.ping("Hello, world!"), "pong Hello, world!"),
		goesOn("ping with bytes", c.ping("\x00\xFF\xFE\xFD\xFC\xFB\x00\xFF"), "pong \x00\xFF\xFE\xFD\xFC\xFB\x00\xFF"),
		goesOn("ping of 125", c.ping(full), "pong "+full),
		fails("ping of 126", "control_too_long", c.ping(full + "!")[:2]).then(c.ping(full + "!")[2:], c.text("late")),
		fails("ping of 65536", "control_too_long", c.header(0x89, 64, 65536)[:2]),
		goesOn("pong that nobody asked for", c.pong("")),
		goesOn("pong with a payload", c.pong("unsolicited")),
		fails("pong of 126", "control_too_long", c.pong(full + "!")[:2]),
		goesOn("pong, then ping", join(c.pong("a"), c.ping("b")), "pong b"),
		goesOn("ten pings", slices.Repeat(c.ping("p"), 10), slices.Repeat([]string{"pong p"}, 10)...),
		goesOn("ten different pings", join(c.ping("0"), c.ping("1"), c.ping("2"), c.ping("3"), c.ping("4"), c.ping("5"), c.ping("6"), c.ping("7"), c.ping("8"), c.ping("9")),
			"pong 0", "pong 1", "pong 2", "pong 3", "pong 4", "pong 5", "pong 6", "pong 7", "pong 8", "pong 9"),
		goesOn("ping between messages", join(c.text("a"), c.ping("b"), c.text("c")), "text a", "pong b", "text c"),
		stops("ping, and no close frame", c.ping("p"), "pong p"),
	}
}

// reservedConversations are bits and opcodes without a meaning.
func reservedConversations() (list []wireCase) {
	c := byHand{}
	hello, first := c.text("Hello"), c.firstText("a")
	for rsv := byte(1); rsv <= 7; rsv++ {
		for _, op := range []byte{0x1, 0x2, 0x8, 0x9, 0xA} {
			list = append(list, fails(fmt.Sprintf("reserved bits %d with opcode %x", rsv, op), "reserved_bits",
				append(hello[:len(hello):len(hello)], 0x80|rsv<<4|op), "text Hello").then([]byte{0x80}, mask[:], hello))
		}
		list = append(list,
			fails(fmt.Sprintf("reserved bits %d in a first fragment", rsv), "reserved_bits", []byte{rsv<<4 | 0x1}),
			fails(fmt.Sprintf("reserved bits %d in a continuation", rsv), "reserved_bits", append(first[:len(first):len(first)], 0x80|rsv<<4)),
		)
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		list = append(list,
			fails(fmt.Sprintf("opcode %x", op), "reserved_opcode", []byte{0x80 | op}),
			fails(fmt.Sprintf("opcode %x after a message", op), "reserved_opcode",
				append(hello[:len(hello):len(hello)], 0x80|op), "text Hello").then(c.frame(0x80|op, "x")[1:], c.ping("")),
			fails(fmt.Sprintf("opcode %x not final", op), "reserved_opcode", []byte{op}),
			fails(fmt.Sprintf("opcode %x between fragments", op), "reserved_opcode", append(first[:len(first):len(first)], 0x80|op)),
		)
	}
	return list
}

// fragmentConversations are messages in pieces, with and without control frames between them.
func fragmentConversations() []wireCase {
	c := byHand{}
	a, b, whole := c.firstText("frag1"), c.more("frag2"), join(c.firstText("frag1"), c.last("frag2"))
	return []wireCase{
		fails("ping not final", "control_fragmented", []byte{0x09}).then(c.frame(0x09, "a")[1:], c.last("b")),
		fails("pong not final", "control_fragmented", []byte{0x0A}).then(c.frame(0x0A, "a")[1:], c.last("b")),
		fails("close not final", "control_fragmented", []byte{0x08}).then(c.close(1000, "")[1:]),
		goesOn("two fragments", whole, "text frag1frag2"),
		goesOn("two binary fragments", join(c.firstBinary("\xFF"), c.last("\xFE")), "binary \xFF\xFE"),
		goesOn("five fragments", join(a, b, c.more(""), c.more("x"), c.last("y")), "text frag1frag2xy"),
		goesOn("three empty fragments", join(c.firstText(""), c.more(""), c.last("")), "text "),
		goesOn("text between empty fragments", join(c.firstText(""), c.more("x"), c.last("")), "text x"),
		goesOn("many empty fragments", join(c.firstText(""), slices.Repeat(c.more(""), 40), c.last("x")), "text x"),
		goesOn("ping between fragments", join(a, c.ping("p"), c.last("frag2")), "pong p", "text frag1frag2"),
		goesOn("pings between fragments", join(a, c.ping("p1"), b, c.ping("p2"), c.pong(""), c.last("frag3")),
			"pong p1", "pong p2", "text frag1frag2frag3"),
		goesOn("ping between empty fragments", join(c.firstText(""), c.ping("p"), c.last("")), "pong p", "text "),
		goesOn("pong between fragments", join(a, c.pong("p"), c.last("frag2")), "text frag1frag2"),
		closes("close between fragments", join(a, c.close(1000, "bye")), 1000, "bye").then(c.last("frag2")),
		goesOn("fragments, then a message", join(whole, c.text("next")), "text frag1frag2", "text next"),
		goesOn("fragments, then fragments", join(whole, c.firstBinary("\xF8"), c.last("\xF9")), "text frag1frag2", "binary \xF8\xF9"),
		stops("message without its end", join(a, b)),
		stops("ping in a message without its end", join(a, c.ping("p"), b), "pong p"),
		fails("continuation of nothing", "continuation_unexpected", []byte{0x80}).then(c.last("x")[1:], c.text("Hello")),
		fails("continuation of nothing, not final", "continuation_unexpected", []byte{0x00}).then(c.more("x")[1:], c.text("Hello")),
		fails("continuation after a message", "continuation_unexpected", join(c.text("a"), []byte{0x80}), "text a"),
		fails("continuation after fragments", "continuation_unexpected", join(whole, []byte{0x00}), "text frag1frag2"),
		fails("continuation after a ping", "continuation_unexpected", join(c.ping("a"), []byte{0x80}), "pong a"),
		fails("text in a message", "continuation_missing", join(a, []byte{0x81})).then(c.text("b")[1:]),
		fails("binary in a message", "continuation_missing", join(a, []byte{0x82})),
		fails("first fragment in a message", "continuation_missing", join(a, []byte{0x01})),
		fails("first binary fragment in a message", "continuation_missing", join(a, []byte{0x02})),
		fails("text in a message after a ping", "continuation_missing", join(a, c.ping("p"), []byte{0x81}), "pong p"),
		fails("text in a message that is empty so far", "continuation_missing", join(c.firstText(""), []byte{0x81})),
	}
}

// validTexts are UTF-8 at its edges.
var validTexts = []string{
	"Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "水\U00010300中文🙂", "\x00", "\u0080\u0800\U00010000", "\x7F\u07FF\uFFFF\U0010FFFF",
	"\uD7FF\uE000", "\uFFFE\uFFFF\uFDD0\U0001FFFE\U0010FFFE", "\uFFFD", "\uFEFF",
}

// invalidTexts are no UTF-8, from the byte of that number on, counted from 1. One more than the length is a code point
// that the end of the message cuts.
var invalidTexts = []struct {
	text  string
	wrong int
}{
	// Wrong in the middle of what is right.
	{"κόσμε\xED\xA0\x80edited", 12},
	{"κόσμε\xF4\x90\x80\x80edited", 12},
	{"text\xFF", 5},
	{strings.Repeat("a", 200) + "\xFF", 201},
	{strings.Repeat("é", 100) + "\xC3", 202},
	// Cut.
	{"\xCE", 2},
	{"κόσμ\xCE", 11},
	{"\xE6", 2},
	{"ab\xE6\xB0", 5},
	{"\xF0", 2},
	{"\xF0\x90", 3},
	{"\xF0\x90\x8C", 4},
	// Started and not continued.
	{"\xC3\x28", 2},
	{"\xC3\xC3", 2},
	{"\xE2\x28", 2},
	{"\xE2\x82\x28", 3},
	{"\xF0\x9F\x28", 3},
	{"\xF0\x9F\x99\x28", 4},
	// Continued and not started.
	{"\x80", 1},
	{"\xBF", 1},
	{"a\x80\xBF\x80", 2},
	{"é\x80", 3},
	// Bytes that never occur.
	{"\xFE", 1},
	{"\xFF", 1},
	{"\xF5\x80\x80\x80", 1},
	{"\xF8\x88\x80\x80\x80", 1},
	{"\xFC\x84\x80\x80\x80\x80", 1},
	// Longer than needed.
	{"\xC0\xAF", 1},
	{"\xC1\xBF", 1},
	{"\xE0\x80\xAF", 2},
	{"\xE0\x9F\xBF", 2},
	{"\xF0\x80\x80\xAF", 2},
	{"\xF0\x8F\xBF\xBF", 2},
	{"\xC0\x80", 1},
	// Surrogates.
	{"\xED\xA0\x80", 2},
	{"\xED\xBF\xBF", 2},
	{"\xED\xA0\x80\xED\xB0\x80", 2},
	// Above U+10FFFF.
	{"\xF4\x90\x80\x80", 2},
}

// utf8Conversations send each text in a frame, in two fragments and in fragments of one byte with pings between them.
// What is wrong has to be found at the byte that is, while the rest of its frame and message is missing.
func utf8Conversations() (list []wireCase) {
	c := byHand{}
	for _, s := range validTexts {
		list = append(list,
			goesOn(fmt.Sprintf("text %+q", s), c.text(s), "text "+s),
			goesOn(fmt.Sprintf("text %+q in fragments of one byte", s), c.fragments(0x1, s, 1), "text "+s),
		)
		for i := 1; i < len(s); i++ {
			cut := goesOn(fmt.Sprintf("text %+q in fragments cut at %d", s, i),
				join(c.firstText(s[:i]), c.ping("p"), c.last(s[i:])), "pong p", "text "+s)
			cut.fragmented = true
			list = append(list, cut)
		}
	}
	for _, u := range invalidTexts {
		s, name := u.text, fmt.Sprintf("text %+.30q", u.text)
		if u.wrong > len(s) {
			list = append(list,
				fails(name+" ended", "invalid_utf8", c.text(s)),
				fails(name+" ended by an empty fragment", "invalid_utf8", join(c.firstText(s), c.last(""))),
				fails(name+" ended, and begun again", "invalid_utf8", join(c.text("good"), c.text(s)), "text good").then(c.text("\xA9")),
				stops(name+" not ended", c.firstText(s)),
			)
			continue
		}
		long := c.text(s + strings.Repeat("z", 300))
		at := len(long) - len(s) - 300 + u.wrong
		list = append(list,
			fails(name, "invalid_utf8", c.text(s)[:len(c.text(s))-len(s)+u.wrong]).then(c.text(s)[len(c.text(s))-len(s)+u.wrong:], c.text("late")),
			fails(name+" in a frame that goes on", "invalid_utf8", long[:at]).then(long[at:]),
			fails(name+" in a fragment", "invalid_utf8", c.firstText(s[:u.wrong])).then(c.more(s[u.wrong:]), c.last("")),
			fails(name+" cut before it", "invalid_utf8", join(c.firstText(s[:u.wrong-1]), c.ping("p"), c.more(s[u.wrong-1:] + "zzz")[:7]), "pong p"),
		)
	}
	return append(list,
		goesOn("binary that is no UTF-8", c.binary("\xED\xA0\x80"), "binary \xED\xA0\x80"),
		goesOn("binary fragments that are no UTF-8", join(c.firstBinary("\xED"), c.last("\xA0\x80")), "binary \xED\xA0\x80"),
		goesOn("ping that is no UTF-8", c.ping("\xFF"), "pong \xFF"),
		goesOn("ping in a code point", join(c.firstText("\xE6"), c.ping("\xFF"), c.last("\xB0\xB4")), "pong \xFF", "text 水"),
	)
}

// closeConversations are closing handshakes.
func closeConversations() (list []wireCase) {
	c := byHand{}
	for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		list = append(list, closes(fmt.Sprintf("close %d", code), c.close(code, ""), CloseCode(code), "").then(c.text("late")))
	}
	for _, code := range []uint16{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		list = append(list,
			fails(fmt.Sprintf("close %d", code), "close_code_invalid", c.close(code, "")),
			fails(fmt.Sprintf("close %d with a reason", code), "close_code_invalid", c.close(code, "no")),
		)
	}
	full := strings.Repeat("*", 123)
	bye := c.close(1000, "bye")
	list = append(list,
		closes("close without a code", c.frame(0x88, ""), codec.StatusNoStatus, ""),
		fails("close with half a code", "close_payload_short", c.frame(0x88, "\x03")),
		closes("close with a reason", c.close(1000, "Hello κόσμε"), 1000, "Hello κόσμε"),
		closes("close of 125", c.close(1000, full), 1000, full),
		fails("close of 126", "control_too_long", c.close(1000, full+"*")[:2]).then(c.close(1000, full+"*")[2:]),
		fails("close with a reason that is no UTF-8", "close_reason_invalid", c.close(1000, "\xCE\xBA\xED\xA0\x80edited")),
		fails("close with a reason that is cut", "close_reason_invalid", c.close(1000, "\xCE\xBA\xE6\xB0")),
		fails("close with a bad code and a bad reason", "close_code_invalid", c.close(1005, "\xFF")),
		fails("message, then a bad close", "close_code_invalid", join(c.text("a"), c.close(1006, "")), "text a"),
		closes("message, then close", join(c.text("last"), c.close(1001, "")), 1001, "", "text last"),
		closes("ping, then close", join(c.ping("p"), bye), 1000, "bye", "pong p"),
		closes("close, then close", bye, 1000, "bye").then(c.close(1001, "")),
		closes("close, then ping", bye, 1000, "bye").then(c.ping("late")),
		closes("close, then text", bye, 1000, "bye").then(c.text("late")),
		closes("close, then a continuation", bye, 1000, "bye").then(c.last("late")),
		closes("close, then an unmasked frame", bye, 1000, "bye").then(c.unmasked(0x81, "x")),
		closes("close, then no frame at all", bye, 1000, "bye").then([]byte(openingHandshake)),
		closes("close, then half a frame", bye, 1000, "bye").then(c.text("late")[:7]),
		closes("close between fragments, then the last", join(c.firstText("a"), bye), 1000, "bye").then(c.last("b")),
	)
	told := c.text("close!")
	return append(list,
		serverCloses("server closes", join(told, c.close(4000, "go away")), ""),
		serverCloses("server closes, client with another code", join(told, c.close(1000, "")), "").then(c.text("late")),
		serverCloses("server closes, client without a code", join(told, c.frame(0x88, "")), ""),
		serverCloses("server closes after a message", join(c.text("a"), told, bye), "", "text a"),
		serverCloses("server closes, client goes on", join(told, c.text("b"), c.ping("p"), c.firstText("c"), bye), ""),
		serverCloses("server closes, client with a bad frame", join(told, []byte{0x83}), "reserved_opcode").then(c.text("late")),
		serverCloses("server closes, client with a bad text", join(told, c.text("\xFF")), "invalid_utf8").then(bye),
		serverCloses("server closes, client with a bad close", join(told, c.close(1005, "")), "close_code_invalid").then(bye),
	)
}

// maskAndLengthConversations are masks that are missing and lengths in a form that RFC 6455 forbids.
func maskAndLengthConversations() (list []wireCase) {
	c := byHand{}
	for _, first := range []byte{0x81, 0x82, 0x01, 0x02, 0x88, 0x89, 0x8A} {
		list = append(list,
			fails(fmt.Sprintf("first byte %x not masked", first), "mask_missing", c.unmasked(first, "")),
			fails(fmt.Sprintf("first byte %x not masked, after a message", first), "mask_missing",
				join(c.text("a"), c.unmasked(first, "xx")[:2]), "text a").then([]byte("xx")),
		)
	}
	for _, n := range []uint64{0, 1, 125} {
		list = append(list, fails(fmt.Sprintf("%d in 16 bits", n), "length_not_minimal", c.header(0x82, 16, n)[:4]))
	}
	for _, n := range []uint64{0, 125, 126, 65535} {
		list = append(list, fails(fmt.Sprintf("%d in 64 bits", n), "length_not_minimal", c.header(0x82, 64, n)[:8]))
	}
	first := c.firstText("a")
	return append(list,
		fails("fragment not masked", "mask_missing", join(first, c.unmasked(0x80, "b")[:2])),
		fails("length in 16 bits on a fragment", "length_not_minimal", join(first, c.header(0x80, 16, 1)[:4])),
		fails("2^63", "length_msb", c.header(0x82, 64, 1<<63)[:3]),
		fails("2^64-1", "length_msb", c.header(0x81, 64, 1<<64-1)[:3]),
		fails("2^63 on a fragment", "length_msb", join(first, c.header(0x80, 64, 1<<63)[:3])),
	)
}

// limitConversations are messages around the limit of their endpoint.
func limitConversations() []wireCase {
	c := byHand{}
	s := strings.Repeat("s", 1000)
	half := c.firstText(s[:500])
	return []wireCase{
		goesOn("default limit", c.binary(strings.Repeat("s", 65536)), "binary "+strings.Repeat("s", 65536)).at("/default"),
		fails("default limit and one", "message_too_big", c.header(0x82, 64, 65537)[:10]).at("/default"),
		fails("2^63-1", "message_too_big", c.header(0x82, 64, 1<<63-1)[:3]),
		fails("1 GiB", "message_too_big", c.header(0x82, 64, 1<<30)[:7]),
		goesOn("limit", c.text(s), "text "+s).at("/1000"),
		fails("limit and one", "message_too_big", c.text(s + "!")[:4]).at("/1000"),
		fails("limit by half a length", "message_too_big", c.header(0x82, 16, 0x8000)[:3]).at("/1000"),
		fails("limit by seven bits", "message_too_big", c.text("ab")[:2]).at("/1"),
		goesOn("limit in fragments", join(half, c.more(s[:499]), c.last("s"), c.text(s)), "text "+s, "text "+s).at("/1000"),
		goesOn("empty fragment at the limit", join(half, c.more(s[:500]), c.last("")), "text "+s).at("/1000"),
		fails("limit and one in fragments", "message_too_big", join(half, c.last(s[:501])[:4])).at("/1000"),
		fails("limit by a small fragment", "message_too_big", join(half, c.more(s[:500]), c.ping(""), c.last("!")[:2]), "pong ").at("/1000"),
		goesOn("ping above the limit", join(c.ping(s[:125]), c.text("x")), "pong "+s[:125], "text x").at("/1"),
		closes("close above the limit", c.close(1000, s[:123]), 1000, s[:123]).at("/1"),
	}
}

// longConversations are messages of up to 1 MiB, in one frame and in fragments.
func longConversations() (list []wireCase) {
	c := byHand{}
	for _, n := range []int{64 << 10, 1 << 20} {
		s := strings.Repeat("é€🙂 chars", n/15+1)[:n]
		s = strings.ToValidUTF8(s, "?")
		b := strings.Repeat("\x00\xFF\xFE!", n/4)
		list = append(list,
			goesOn(fmt.Sprintf("long text of %d", n), c.text(s), "text "+s),
			goesOn(fmt.Sprintf("long binary of %d", n), c.binary(b), "binary "+b),
		)
		for _, size := range []int{64, 1300, 4096, 65536} {
			list = append(list, goesOn(fmt.Sprintf("long text of %d in fragments of %d", n, size), c.fragments(0x1, s, size), "text "+s))
		}
		list = append(list, goesOn(fmt.Sprintf("long binary of %d in fragments of 64", n), c.fragments(0x2, b, 64), "binary "+b))
	}
	long := strings.Repeat("BAsd7&jh23", 26215)
	bye := c.close(1000, "")
	many, answers := []byte(nil), []string(nil)
	for i := range 1000 {
		s := strings.Repeat("m", i)
		many = append(many, c.text(s)...)
		answers = append(answers, "text "+s)
	}
	return append(list,
		goesOn("a thousand messages", many, answers...),
		closes("long message, then close", join(c.text(long), bye), 1000, "", "text "+long).then(c.ping("late")),
		fails("long text that ends wrong", "invalid_utf8", c.text(long+"\xFF")),
		closes("close, then a long message", bye, 1000, "").then(c.text(long)),
		fails("fault, then a long message", "reserved_opcode", []byte{0x83}).then(c.text(long), c.text(long), c.text(long), c.text(long)),
	)
}
