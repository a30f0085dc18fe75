package codec

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseClose(t *testing.T) {
	for _, c := range []struct {
		name    string
		payload string
		code    CloseCode
		reason  string
		fault   FaultKind
	}{
		{"empty", "", StatusNoStatus, "", 0},
		{"half a code", "\x03", 0, "", FaultClosePayloadShort},
		{"code", "\x03\xE8", StatusNormal, "", 0},
		{"reason", "\x03\xE9going κόσμε", StatusGoingAway, "going κόσμε", 0},
		{"application's", "\x12\x34", 4660, "", 0},
		{"1005", closeBody(1005, ""), 0, "", FaultCloseCodeInvalid},
		{"invalid code with invalid reason", closeBody(1006, "\xFF"), 0, "", FaultCloseCodeInvalid},
		{"cut reason", closeBody(1000, "\xC3"), 0, "", FaultCloseReasonInvalid},
	} {
		code, reason, err := ParseClose([]byte(c.payload))
		if code != c.code || reason != c.reason || (err == nil) != (c.fault == 0) {
			t.Errorf("%s: %d %q %v", c.name, code, reason, err)
		}
		if err != nil && err.(*Fault).Kind != c.fault {
			t.Errorf("%s: %v, want %v", c.name, err, c.fault)
		}
	}
}

func TestParseCloseCopiesTheReason(t *testing.T) {
	payload := []byte(closeBody(1000, "reason"))
	_, reason, _ := ParseClose(payload)
	clear(payload)
	if reason != "reason" {
		t.Errorf("reason became %q", reason)
	}
}

func TestValidOnWire(t *testing.T) {
	for c := range 1 << 16 {
		want := referenceClose([]byte{byte(c >> 8), byte(c)}) == 0
		if got := CloseCode(c).ValidOnWire(); got != want {
			t.Errorf("%d: %v", c, got)
		}
	}
}

func TestAppendClose(t *testing.T) {
	many := strings.Repeat("x", 123)
	for _, c := range []struct {
		name   string
		code   CloseCode
		reason string
		want   string // payload
	}{
		{"nothing", 0, "", ""},
		{"nothing with a reason", 0, "unsaid", ""},
		{"1005", StatusNoStatus, "unsaid", ""},
		{"code", StatusGoingAway, "", closeBody(1001, "")},
		{"reason", 4000, "why", closeBody(4000, "why")},
		{"123 bytes", 1000, many, closeBody(1000, many)},
		{"124 bytes", 1000, many + "y", closeBody(1000, many)},
		{"cut before two bytes", 1000, many[1:] + "é", closeBody(1000, many[1:])},
		{"cut before four bytes", 1000, many[3:] + "🙂", closeBody(1000, many[3:])},
		{"four bytes that fit", 1000, many[4:] + "🙂", closeBody(1000, many[4:]+"🙂")},
		{"not UTF-8", 1000, "a\xFF\xFEb", closeBody(1000, "a\uFFFDb")},
		{"not UTF-8 and long", 1000, many[1:] + "\xFF", closeBody(1000, many[1:])},
		{"continuations only", 1000, strings.Repeat("\x80", 300), closeBody(1000, "\uFFFD")},
		{"1006", StatusAbnormal, "x", closeBody(1011, "x")},
		{"1015", StatusTLSHandshake, "x", closeBody(1011, "x")},
		{"999", 999, "x", closeBody(1011, "x")},
		{"5000", 5000, "x", closeBody(1011, "x")},
	} {
		want := append([]byte("before"), unmaskedFrame(fin|0x8, c.want)...)
		if got := AppendClose([]byte("before"), c.code, c.reason); !bytes.Equal(got, want) {
			t.Errorf("%s: % x\nwant % x", c.name, got, want)
		}
		if got := AppendClosePayload(nil, c.code, c.reason); string(got) != c.want {
			t.Errorf("%s: payload %q, want %q", c.name, got, c.want)
		}
		f := NewCloseFrame(c.code, c.reason)
		if f.Opcode() != OpClose || string(f.Payload()) != c.want || !bytes.Equal(f.Bytes(), want[6:]) {
			t.Errorf("%s: frame % x", c.name, f.Bytes())
		}
	}
}

// TestFaultsAnswer: each fault has a name, a code that may be sent and a reason that fits.
func TestFaultsAnswer(t *testing.T) {
	labels := map[string]bool{}
	for k := FaultOther; int(k) < NumFaultKinds; k++ {
		f := k.fault()
		if f.Kind != k || labels[k.String()] || !f.Code.ValidOnWire() || f.Reason == "" {
			t.Errorf("%d: %+v %q", k, f, k)
		}
		labels[k.String()] = true
		code, reason, err := ParseClose(AppendClosePayload(nil, f.Code, f.Reason))
		if code != f.Code || reason != f.Reason || err != nil {
			t.Errorf("%v: %d %q %v", k, code, reason, err)
		}
		if want := k.String() + ": " + f.Reason; f.Error() != want {
			t.Errorf("%v: %q", k, f.Error())
		}
	}
	if FaultKind(NumFaultKinds).String() != "other" {
		t.Error("an unknown kind has a name")
	}
	for k, want := range map[FaultKind]CloseCode{
		FaultMaskMissing: 1002, FaultMessageTooBig: 1009, FaultInvalidUTF8: 1007, FaultCloseReasonInvalid: 1007,
		FaultCloseCodeInvalid: 1002, FaultReservedBits: 1002, FaultLengthMSB: 1002,
	} {
		if got := k.fault().Code; got != want {
			t.Errorf("%v: %d, want %d", k, got, want)
		}
	}
}

// FuzzClose reads any payload as the naive twin does, and writes any code and reason so that a peer accepts it.
func FuzzClose(f *testing.F) {
	for _, c := range cases {
		for _, m := range c.want {
			if m.Opcode == OpClose {
				f.Add(m.Payload, uint16(1000), string(m.Payload))
			}
		}
	}
	f.Add([]byte{}, uint16(1006), strings.Repeat("é", 70))
	f.Add([]byte{3}, uint16(0), strings.Repeat("\xFF", 200))
	f.Fuzz(func(t *testing.T, payload []byte, code uint16, reason string) {
		_, got, err := ParseClose(payload)
		want := referenceClose(payload)
		if (err == nil) != (want == 0) || (err != nil && err.(*Fault).Kind != want) {
			t.Fatalf("ParseClose(%q): %v, want %v", payload, err, want)
		}
		if err == nil && len(payload) >= 2 && got != string(payload[2:]) {
			t.Fatalf("ParseClose(%q): reason %q", payload, got)
		}
		checkClose(t, CloseCode(code), reason)
	})
}

// checkClose sends a close frame to a client's decoder.
func checkClose(t *testing.T, code CloseCode, reason string) {
	t.Helper()
	out := decode(t, &Options{Client: true}, AppendClose(nil, code, reason))
	if out.fault != 0 || len(out.messages) != 1 || out.messages[0].Opcode != OpClose {
		t.Fatalf("close %d %q was refused: %v", code, reason, out)
	}
	gotCode, gotReason, _ := ParseClose(out.messages[0].Payload)
	switch {
	case code == 0 || code == StatusNoStatus:
		if gotCode != StatusNoStatus || gotReason != "" {
			t.Fatalf("close without a code: %d %q", gotCode, gotReason)
		}
	case code.ValidOnWire() && gotCode != code, !code.ValidOnWire() && gotCode != StatusInternalError:
		t.Fatalf("close %d arrived as %d", code, gotCode)
	case utf8.ValidString(reason):
		if !strings.HasPrefix(reason, gotReason) || (len(gotReason) < 120 && gotReason != reason) {
			t.Fatalf("reason %q arrived as %q", reason, gotReason)
		}
	}
}
