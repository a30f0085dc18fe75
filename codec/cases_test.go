package codec

import (
	"fmt"
	"slices"
	"strings"
)

// streamCase is a stream of a client or a server, and what becomes of it.
type streamCase struct {
	name  string
	o     Options
	wire  []byte
	want  []Message
	fault FaultKind // 0: none
	at    int       // the number of bytes after which the fault has to be known, not one later
}

// cases is the table that serves the decoder's tests, the serialiser's and the fuzzers. The groups follow the
// chapters that conformance suites for RFC 6455 have in common.
var cases = slices.Concat(
	framingCases(), pingCases(), reservedCases(), fragmentCases(), utf8Cases(), closeCases(),
	lengthCases(), limitCases(), clientCases(), unfinishedCases(),
	deflateCases(), takeoverCases(),
)

// good is a stream without a fault.
func good(name string, wire []byte, want ...Message) streamCase {
	return streamCase{name: name, wire: wire, want: want}
}

// bad is a stream with a fault that has to be known after at bytes.
func bad(name string, wire []byte, at int, fault FaultKind, want ...Message) streamCase {
	return streamCase{name: name, wire: wire, want: want, fault: fault, at: at}
}

// framingCases are whole messages of the lengths around which the encoding changes.
func framingCases() (list []streamCase) {
	for _, n := range []int{0, 1, 124, 125, 126, 127, 128, 65535, 65536} {
		s, b := strings.Repeat("*", n), strings.Repeat("\xFE", n)
		list = append(list,
			good(fmt.Sprintf("text %d", n), text(s), msg(OpText, s)),
			good(fmt.Sprintf("binary %d", n), bin(b), msg(OpBinary, b)),
		)
	}
	for _, n := range []int{64 << 10, 256 << 10} {
		b := strings.Repeat("big!", n/4)
		o := Options{MaxMessageBytes: 1 << 20}
		for _, size := range []int{64, 1300, 4096, 65536} {
			if n/size > 512 {
				continue
			}
			list = append(list, streamCase{
				name: fmt.Sprintf("text %d in fragments of %d", n, size), o: o,
				wire: fragments(0x1, b, size), want: []Message{msg(OpText, b)},
			})
		}
	}
	return append(list,
		good("nothing", nil),
		good("two messages", join(text("one"), bin("two")), msg(OpText, "one"), msg(OpBinary, "two")),
		good("sixteen messages", slices.Concat(slices.Repeat([][]byte{text("again")}, 16)...),
			slices.Repeat([]Message{msg(OpText, "again")}, 16)...),
	)
}

// pingCases are pings and pongs outside of fragmented messages.
func pingCases() []streamCase {
	full := strings.Repeat("\xFE", 125)
	return []streamCase{
		good("ping empty", ping(""), msg(OpPing, "")),
		good("ping text", ping("Hello, world!"), msg(OpPing, "Hello, world!")),
		good("ping binary", ping("\x00\xFF\xFE\xFD\xFC\xFB\x00\xFF"), msg(OpPing, "\x00\xFF\xFE\xFD\xFC\xFB\x00\xFF")),
		good("ping 125", ping(full), msg(OpPing, full)),
		bad("ping 126", ping(full+"!"), 2, FaultControlTooLong),
		bad("ping 64-bit length", header(fin|0x9, true, length64, 70000), 2, FaultControlTooLong),
		good("pong empty", pong(""), msg(OpPong, "")),
		good("pong unsolicited", pong("unsolicited"), msg(OpPong, "unsolicited")),
		good("pong then ping", join(pong("a"), ping("b")), msg(OpPong, "a"), msg(OpPing, "b")),
		good("ten pings", slices.Concat(slices.Repeat([][]byte{ping("payload")}, 10)...),
			slices.Repeat([]Message{msg(OpPing, "payload")}, 10)...),
		good("ping between messages", join(text("a"), ping("b"), text("c")),
			msg(OpText, "a"), msg(OpPing, "b"), msg(OpText, "c")),
	}
}

// reservedCases are bits and opcodes without a meaning.
func reservedCases() (list []streamCase) {
	hello := text("Hello")
	for rsv := byte(1); rsv <= 7; rsv++ {
		for _, op := range []byte{0x1, 0x2, 0x8, 0x9, 0xA} {
			list = append(list, bad(fmt.Sprintf("rsv %d opcode %x", rsv, op),
				join(hello, frame(fin|rsv<<4|op, "x"), hello), len(hello)+1, FaultReservedBits, msg(OpText, "Hello")))
		}
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		list = append(list,
			bad(fmt.Sprintf("opcode %x empty", op), frame(fin|op, ""), 1, FaultReservedOpcode),
			bad(fmt.Sprintf("opcode %x", op), join(hello, frame(fin|op, "x"), ping("")), len(hello)+1,
				FaultReservedOpcode, msg(OpText, "Hello")),
			bad(fmt.Sprintf("opcode %x not final", op), frame(op, "x"), 1, FaultReservedOpcode),
		)
	}
	first := firstText("a")
	return append(list,
		bad("rsv 1 on a continuation", join(first, frame(fin|0x40, "b")), len(first)+1, FaultReservedBits),
		bad("reserved opcode between fragments", join(first, frame(fin|0x3, "b")), len(first)+1, FaultReservedOpcode),
		bad("rsv and reserved opcode", frame(fin|0x73, ""), 1, FaultReservedBits),
	)
}

// fragmentCases are messages in pieces, with and without control frames between them.
func fragmentCases() []streamCase {
	a, b := firstText("frag1"), more("frag2")
	whole := msg(OpText, "frag1frag2")
	return []streamCase{
		bad("ping fragmented", join(frame(0x9, "a"), last("b")), 1, FaultControlFragmented),
		bad("pong fragmented", join(frame(0xA, "a"), last("b")), 1, FaultControlFragmented),
		bad("close fragmented", frame(0x8, closeBody(1000, "")), 1, FaultControlFragmented),
		good("two fragments", join(a, last("frag2")), whole),
		good("two binary fragments", join(firstBinary("\xFF"), last("\xFE")), msg(OpBinary, "\xFF\xFE")),
		good("five fragments", join(a, b, more(""), more("x"), last("y")), msg(OpText, "frag1frag2xy")),
		good("ping between fragments", join(a, ping("p"), last("frag2")), msg(OpPing, "p"), whole),
		good("pings between fragments", join(a, ping("p1"), b, ping("p2"), pong(""), last("frag3")),
			msg(OpPing, "p1"), msg(OpPing, "p2"), msg(OpPong, ""), msg(OpText, "frag1frag2frag3")),
		good("close between fragments", join(a, closing(1000, "bye"), last("frag2")),
			msg(OpClose, closeBody(1000, "bye"))),
		good("ping between empty fragments", join(firstText(""), ping("p"), last("")), msg(OpPing, "p"), msg(OpText, "")),
		good("fragments, then a message", join(a, last("frag2"), text("next")), whole, msg(OpText, "next")),
		good("fragments, then fragments", join(a, last("frag2"), firstBinary("\xF8"), last("\xF9")), whole,
			msg(OpBinary, "\xF8\xF9")),
		good("many empty fragments", join(firstText(""), slices.Concat(slices.Repeat([][]byte{more("")}, 40)...),
			last("x")), msg(OpText, "x")),
		bad("continuation of nothing", join(last("x"), text("Hello")), 1, FaultContinuationUnexpected),
		bad("continuation of nothing, not final", join(more("x"), text("Hello")), 1, FaultContinuationUnexpected),
		bad("continuation after a message", join(text("a"), last("b")), len(text("a"))+1,
			FaultContinuationUnexpected, msg(OpText, "a")),
		bad("continuation after fragments", join(a, last("frag2"), more("frag3")),
			len(a)+len(last("frag2"))+1, FaultContinuationUnexpected, whole),
		bad("continuation after a ping", join(ping("a"), last("b")), len(ping("a"))+1,
			FaultContinuationUnexpected, msg(OpPing, "a")),
		bad("text inside of a message", join(a, text("b")), len(a)+1, FaultContinuationMissing),
		bad("binary inside of a message", join(a, bin("b")), len(a)+1, FaultContinuationMissing),
		bad("first fragment inside of a message", join(a, firstText("b")), len(a)+1, FaultContinuationMissing),
		bad("text inside of a message after a ping", join(a, ping("p"), text("b")), len(a)+len(ping("p"))+1,
			FaultContinuationMissing, msg(OpPing, "p")),
		bad("text inside of an empty fragment", join(firstText(""), text("b")), 7, FaultContinuationMissing),
	}
}

// utf8Texts are payloads of text messages: either valid, or wrong from byte number wrong on, counted from 1.
// A wrong of one more than the length is a code point cut by the end of the message.
var utf8Texts = []struct {
	name  string
	text  string
	wrong int
}{
	{"greek", "κόσμε", 0},
	{"mixed", "Hello-µ@ßöäüàá-UTF-8!!", 0},
	{"cjk and emoji", "水\U00010300中文🙂", 0},
	{"nul", "\x00", 0},
	{"first of each length", "\u0080\u0800\U00010000", 0},
	{"last of each length", "\x7F\u07FF\uFFFF\U0010FFFF", 0},
	{"around the surrogates", "\uD7FF\uE000", 0},
	{"noncharacters", "\uFFFE\uFFFF\uFDD0\U0001FFFE\U0010FFFE", 0},
	{"replacement character", "\uFFFD", 0},
	{"surrogate inside", "κόσμε\xED\xA0\x80edited", 12},
	{"above U+10FFFF inside", "κόσμε\xF4\x90\x80\x80edited", 12},
	{"cut two", "\xCE", 2},
	{"cut three after one", "\xE6", 2},
	{"cut three after two", "ab\xE6\xB0", 5},
	{"cut four after one", "\xF0", 2},
	{"cut four after three", "\xF0\x90\x8C", 4},
	{"lone continuation first", "\x80", 1},
	{"lone continuation last", "\xBF", 1},
	{"continuations", "a\x80\xBF\x80", 2},
	{"five bytes", "\xF8\x88\x80\x80\x80", 1},
	{"six bytes", "\xFC\x84\x80\x80\x80\x80", 1},
	{"FE", "\xFE", 1},
	{"FF after text", "text\xFF", 5},
	{"overlong slash of two", "\xC0\xAF", 1},
	{"overlong slash of three", "\xE0\x80\xAF", 2},
	{"overlong slash of four", "\xF0\x80\x80\xAF", 2},
	{"overlong last of two", "\xC1\xBF", 1},
	{"overlong last of three", "\xE0\x9F\xBF", 2},
	{"overlong last of four", "\xF0\x8F\xBF\xBF", 2},
	{"overlong nul", "\xC0\x80", 1},
	{"surrogate first", "\xED\xA0\x80", 2},
	{"surrogate last", "\xED\xBF\xBF", 2},
	{"surrogate pair", "\xED\xA0\x80\xED\xB0\x80", 2},
	{"U+110000", "\xF4\x90\x80\x80", 2},
	{"F5", "\xF5\x80\x80\x80", 1},
	{"two then ascii", "\xC3\x28", 2},
	{"three then ascii", "\xE2\x82\x28", 3},
	{"four then ascii", "\xF0\x9F\x99\x28", 4},
	{"long ascii then wrong", strings.Repeat("a", 200) + "\xFF", 201},
	{"long multi-byte then cut", strings.Repeat("é", 100) + "\xC3", 202},
}

// utf8Cases sends each text whole, in a frame that goes on after it, in two fragments cut at each byte, and in
// fragments of one byte with a ping between them.
func utf8Cases() (list []streamCase) {
	for _, u := range utf8Texts {
		list = append(list, utf8Case("text "+u.name, u.text, u.wrong, text(u.text), 6))
		if u.wrong > 0 && u.wrong <= len(u.text) && len(u.text) < 100 {
			list = append(list, bad("text "+u.name+" in a longer frame", text(u.text+strings.Repeat("z", 20)),
				6+u.wrong, FaultInvalidUTF8))
		}
		if len(u.text) > 30 {
			continue
		}
		for i := 0; i <= len(u.text); i++ {
			headers := 6
			if u.wrong > i {
				headers = 12
			}
			name := fmt.Sprintf("text %s in fragments cut at %d", u.name, i)
			list = append(list, utf8Case(name, u.text, u.wrong, join(firstText(u.text[:i]), last(u.text[i:])), headers))
		}
		list = append(list, bytewiseUTF8Case("text "+u.name+" in fragments of one byte", u.text, u.wrong))
	}
	return append(list,
		good("text of three empty fragments", join(firstText(""), more(""), last("")), msg(OpText, "")),
		good("text between empty fragments", join(firstText(""), more("x"), last("")), msg(OpText, "x")),
		good("invalid text is valid binary", bin("\xED\xA0\x80"), msg(OpBinary, "\xED\xA0\x80")),
		good("invalid text is a valid ping", ping("\xFF"), msg(OpPing, "\xFF")),
		good("code point around a ping", join(firstText("\xE6"), ping("\xFF"), last("\xB0\xB4")),
			msg(OpPing, "\xFF"), msg(OpText, "水")),
		bad("cut code point, then the next message", join(text("a\xC3"), text("\xA9")), 8, FaultInvalidUTF8),
	)
}

// utf8Case is one text on the wire behind so many bytes of headers up to its end or its fault.
func utf8Case(name, s string, wrong int, wire []byte, headers int) streamCase {
	switch {
	case wrong == 0:
		return good(name, wire, msg(OpText, s))
	case wrong > len(s): // known at the end of the last frame
		return bad(name, wire, len(wire), FaultInvalidUTF8)
	case len(s) >= 126:
		headers += 2
	}
	return bad(name, wire, headers+wrong, FaultInvalidUTF8)
}

// bytewiseUTF8Case sends each byte of s in a fragment of its own, with a ping after it, and an empty last fragment.
func bytewiseUTF8Case(name, s string, wrong int) streamCase {
	c := streamCase{name: name, wire: firstText("")}
	for i := range len(s) {
		c.wire = append(c.wire, more(s[i:i+1])...)
		if i+1 == wrong {
			c.fault, c.at = FaultInvalidUTF8, len(c.wire)
		}
		if c.fault == 0 {
			c.want = append(c.want, msg(OpPing, "p"))
		}
		c.wire = append(c.wire, ping("p")...)
	}
	c.wire = append(c.wire, last("")...)
	switch {
	case wrong > len(s):
		c.fault, c.at = FaultInvalidUTF8, len(c.wire)
	case wrong == 0:
		c.want = append(c.want, msg(OpText, s))
	}
	return c
}

// closeCases are close frames. The reader of the tests gives their payload to ParseClose and stops there.
func closeCases() (list []streamCase) {
	for _, code := range []uint16{
		1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999,
	} {
		body := closeBody(code, "")
		list = append(list, good(fmt.Sprintf("close %d", code), closing(code, ""), msg(OpClose, body)))
	}
	for _, code := range []uint16{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		wire := closing(code, "no")
		list = append(list, bad(fmt.Sprintf("close %d", code), wire, len(wire), FaultCloseCodeInvalid,
			msg(OpClose, closeBody(code, "no"))))
	}
	full := strings.Repeat("*", 123)
	invalid := closing(1000, "\xCE\xBA\xED\xA0\x80")
	return append(list,
		good("close empty", closing1(""), msg(OpClose, "")),
		bad("close of one byte", closing1("a"), 7, FaultClosePayloadShort, msg(OpClose, "a")),
		good("close with a reason", closing(1000, "Hello κόσμε"), msg(OpClose, closeBody(1000, "Hello κόσμε"))),
		good("close with 123 bytes", closing(1000, full), msg(OpClose, closeBody(1000, full))),
		bad("close with 124 bytes", closing(1000, full+"*"), 2, FaultControlTooLong),
		bad("close with an invalid reason", invalid, len(invalid), FaultCloseReasonInvalid,
			msg(OpClose, closeBody(1000, "\xCE\xBA\xED\xA0\x80"))),
		good("close, then more", join(closing(1000, ""), text("late"), ping("late")), msg(OpClose, closeBody(1000, ""))),
		good("message, then close", join(text("a"), closing(1001, "")), msg(OpText, "a"), msg(OpClose, closeBody(1001, ""))),
	)
}

// closing1 builds a close frame with any payload.
func closing1(payload string) []byte { return frame(fin|0x8, payload) }

// lengthCases are encodings of the length that RFC 6455 forbids, and masks that are missing.
func lengthCases() (list []streamCase) {
	for _, n := range []uint64{0, 1, 125} {
		list = append(list, bad(fmt.Sprintf("length %d in 16 bits", n), header(fin|0x2, true, length16, n), 4,
			FaultLengthNotMinimal))
	}
	for _, n := range []uint64{0, 125, 126, 65535} {
		list = append(list, bad(fmt.Sprintf("length %d in 64 bits", n), header(fin|0x2, true, length64, n), 8,
			FaultLengthNotMinimal))
	}
	first := firstText("a")
	return append(list,
		bad("length 2^63", header(fin|0x2, true, length64, 1<<63), 3, FaultLengthMSB),
		bad("length 2^64-1", header(fin|0x2, true, length64, 1<<64-1), 3, FaultLengthMSB),
		bad("length 2^63-1", header(fin|0x2, true, length64, 1<<63-1), 3, FaultMessageTooBig),
		bad("length 2^63 on a fragment", join(first, header(0, true, length64, 1<<63)), len(first)+3, FaultLengthMSB),
		bad("text not masked", unmaskedFrame(fin|0x1, "Hello"), 2, FaultMaskMissing),
		bad("empty text not masked", unmaskedFrame(fin|0x1, ""), 2, FaultMaskMissing),
		bad("long text not masked", unmaskedFrame(fin|0x1, strings.Repeat("a", 200)), 2, FaultMaskMissing),
		bad("ping not masked", unmaskedFrame(fin|0x9, ""), 2, FaultMaskMissing),
		bad("fragment not masked", join(first, unmaskedFrame(fin, "b")), len(first)+2, FaultMaskMissing),
		bad("message, then one not masked", join(text("a"), unmaskedFrame(fin|0x1, "b")), len(text("a"))+2,
			FaultMaskMissing, msg(OpText, "a")),
	)
}

// limitCases are messages around Options.MaxMessageBytes.
func limitCases() []streamCase {
	limited := func(n int, c streamCase) streamCase {
		c.o.MaxMessageBytes = n
		return c
	}
	s := strings.Repeat("s", 1000)
	half := firstText(s[:500])
	return []streamCase{
		bad("default limit and one", header(fin|0x2, true, length64, 65537), 10, FaultMessageTooBig),
		limited(1000, good("limit", text(s), msg(OpText, s))),
		limited(1000, bad("limit and one", text(s+"!"), 4, FaultMessageTooBig)),
		limited(1000, bad("limit by the first byte of a length", header(fin|0x2, true, length16, 0x8000), 3, FaultMessageTooBig)),
		limited(1000, bad("limit by a 64-bit length", header(fin|0x2, true, length64, 1<<32), 6, FaultMessageTooBig)),
		limited(100, bad("limit by a 7-bit length", text(s[:101]), 2, FaultMessageTooBig)),
		limited(100, bad("limit and not minimal", header(fin|0x2, true, length16, 120), 4, FaultLengthNotMinimal)),
		limited(1000, good("limit in fragments", join(half, more(s[:499]), last("s"), text(s)), msg(OpText, s), msg(OpText, s))),
		limited(1000, bad("limit and one in fragments", join(half, last(s[:501])), len(half)+4, FaultMessageTooBig)),
		limited(1000, bad("limit by a small fragment", join(half, more(s[:500]), ping(""), last("!")),
			len(half)+len(more(s[:500]))+6+2, FaultMessageTooBig, msg(OpPing, ""))),
		limited(1000, good("empty fragment at the limit", join(half, more(s[:500]), last("")), msg(OpText, s))),
		limited(1, good("ping above the limit", join(ping(s[:125]), text("x")), msg(OpPing, s[:125]), msg(OpText, "x"))),
	}
}

// clientCases are streams of a server.
func clientCases() []streamCase {
	client := func(c streamCase) streamCase {
		c.o.Client = true
		return c
	}
	s, b := strings.Repeat("s", 200), strings.Repeat("\xFF", 65536)
	return []streamCase{
		client(good("server: text", unmaskedFrame(fin|0x1, "Hello"), msg(OpText, "Hello"))),
		client(good("server: text 200", unmaskedFrame(fin|0x1, s), msg(OpText, s))),
		client(good("server: binary 65536", unmaskedFrame(fin|0x2, b), msg(OpBinary, b))),
		client(good("server: fragments with a ping", join(unmaskedFrame(0x1, "a"), unmaskedFrame(fin|0x9, "p"),
			unmaskedFrame(fin, "b")), msg(OpPing, "p"), msg(OpText, "ab"))),
		client(bad("server: masked", text("Hello"), 2, FaultMaskUnexpected)),
		client(bad("server: masked empty ping", ping(""), 2, FaultMaskUnexpected)),
		client(bad("server: invalid text", unmaskedFrame(fin|0x1, "a\xFFb"), 4, FaultInvalidUTF8)),
	}
}

// unfinishedCases end where more bytes would have to come.
func unfinishedCases() []streamCase {
	long := strings.Repeat("l", 300)
	return []streamCase{
		good("unfinished: first byte", []byte{fin | 0x1}),
		good("unfinished: header", text("Hello")[:5]),
		good("unfinished: 16-bit length", text(long)[:3]),
		good("unfinished: payload", text("Hello")[:8]),
		good("unfinished: ping", ping("Hello")[:8]),
		good("unfinished: message", join(firstText("a"), more("b")), []Message{}...),
		good("unfinished: after a message", join(text("a"), text("b")[:4]), msg(OpText, "a")),
		good("unfinished: code point", firstText("\xF0\x9F\x99")),
		bad("unfinished: invalid text", text("\xFFlong text")[:7], 7, FaultInvalidUTF8),
		bad("unfinished: invalid text in a fragment", join(firstText("a"), more("\xC3"), more("(((")[:7]),
			7+7+7, FaultInvalidUTF8),
	}
}
