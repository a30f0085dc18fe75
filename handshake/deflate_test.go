package handshake

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

const (
	none      = ""
	stateless = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
)

// negotiations are a client's offers, one field each, and the answer's extensions.
var negotiations = []struct {
	name   string
	d      Deflate
	offers []string
	want   string
}{
	{"nothing", Deflate{}, nil, none},
	{"another extension", Deflate{}, []string{"x-webkit-deflate-frame"}, none},
	{"another case", Deflate{}, []string{"Permessage-Deflate"}, none},
	{"plain offer", Deflate{}, []string{"permessage-deflate"}, stateless},
	{"browser", Deflate{}, []string{"permessage-deflate; client_max_window_bits"}, stateless},
	{"after another", Deflate{}, []string{`a;b="c", permessage-deflate`}, stateless},
	{"second field", Deflate{}, []string{"a", "b", "c", "permessage-deflate"}, stateless},
	{"fifth field", Deflate{}, []string{"a", "b", "c", "d", "permessage-deflate"}, none},
	{"empty elements", Deflate{}, []string{", ,permessage-deflate,"}, stateless},
	{"spaces", Deflate{}, []string{" permessage-deflate\t; client_max_window_bits = 10 ;\tserver_no_context_takeover "}, stateless},
	{"only once", Deflate{}, []string{"permessage-deflate, permessage-deflate"}, stateless},
	{"both without context", Deflate{}, []string{"permessage-deflate; server_no_context_takeover; client_no_context_takeover"}, stateless},
	{"server window", Deflate{}, []string{"permessage-deflate; server_max_window_bits=9"}, stateless + "; server_max_window_bits=9"},
	{"least server window", Deflate{}, []string{"permessage-deflate; server_max_window_bits=8"}, stateless + "; server_max_window_bits=8"},
	{"full server window", Deflate{}, []string{"permessage-deflate; server_max_window_bits=15"}, stateless + "; server_max_window_bits=15"},
	{"quoted", Deflate{}, []string{`permessage-deflate; server_max_window_bits="10"`}, stateless + "; server_max_window_bits=10"},
	{"escaped", Deflate{}, []string{`permessage-deflate; server_max_window_bits="1\0"`}, stateless + "; server_max_window_bits=10"},
	{"client window", Deflate{}, []string{"permessage-deflate; client_max_window_bits=8"}, stateless},

	{"unknown parameter", Deflate{}, []string{"permessage-deflate; foo"}, none},
	{"unknown parameter with a value", Deflate{}, []string{"permessage-deflate; foo=bar"}, none},
	{"parameter of another case", Deflate{}, []string{"permessage-deflate; Server_no_context_takeover"}, none},
	{"server takeover with a value", Deflate{}, []string{"permessage-deflate; server_no_context_takeover=1"}, none},
	{"client takeover with a value", Deflate{}, []string{"permessage-deflate; client_no_context_takeover=true"}, none},
	{"server takeover twice", Deflate{}, []string{"permessage-deflate; server_no_context_takeover; server_no_context_takeover"}, none},
	{"client takeover twice", Deflate{}, []string{"permessage-deflate; client_no_context_takeover; client_no_context_takeover"}, none},
	{"server window without a value", Deflate{}, []string{"permessage-deflate; server_max_window_bits"}, none},
	{"server window twice", Deflate{}, []string{"permessage-deflate; server_max_window_bits=10; server_max_window_bits=10"}, none},
	{"client window twice", Deflate{}, []string{"permessage-deflate; client_max_window_bits; client_max_window_bits=10"}, none},
	{"fallback", Deflate{}, []string{"permessage-deflate; foo, permessage-deflate; server_max_window_bits=7, permessage-deflate; server_max_window_bits=12"}, stateless + "; server_max_window_bits=12"},
	{"fallback in the next field", Deflate{}, []string{"permessage-deflate; foo", "permessage-deflate"}, stateless},

	{"context", Deflate{ContextTakeover: true}, []string{"permessage-deflate"}, "permessage-deflate"},
	{"context, browser", Deflate{ContextTakeover: true}, []string{"permessage-deflate; client_max_window_bits"}, "permessage-deflate"},
	{"context, not the server's", Deflate{ContextTakeover: true}, []string{"permessage-deflate; server_no_context_takeover"}, "permessage-deflate; server_no_context_takeover"},
	{"context, not the client's", Deflate{ContextTakeover: true}, []string{"permessage-deflate; client_no_context_takeover"}, "permessage-deflate; client_no_context_takeover"},
	{"context, server window", Deflate{ContextTakeover: true}, []string{"permessage-deflate; server_max_window_bits=9"}, "permessage-deflate; server_max_window_bits=9"},
	{
		"small windows",
		Deflate{ContextTakeover: true, WindowBits: 10},
		[]string{"permessage-deflate; client_max_window_bits"},
		"permessage-deflate; server_max_window_bits=10; client_max_window_bits=10",
	},
	{
		"smaller windows",
		Deflate{ContextTakeover: true, WindowBits: 10},
		[]string{"permessage-deflate; client_max_window_bits=9; server_max_window_bits=8"},
		"permessage-deflate; server_max_window_bits=8; client_max_window_bits=9",
	},
	{
		"the client's can't be bounded",
		Deflate{ContextTakeover: true, WindowBits: 10},
		[]string{"permessage-deflate"},
		"permessage-deflate; client_no_context_takeover; server_max_window_bits=10",
	},
	{
		"the client's need not be bounded",
		Deflate{ContextTakeover: true, WindowBits: 10},
		[]string{"permessage-deflate; client_no_context_takeover"},
		"permessage-deflate; client_no_context_takeover; server_max_window_bits=10",
	},
	{"bounds without context", Deflate{WindowBits: 10}, []string{"permessage-deflate; client_max_window_bits"}, stateless},
}

var extensionsField = regexp.MustCompile(`(?m)^Sec-WebSocket-Extensions: (.*)\r$`)

func negotiated(t testing.TB, d *Deflate, offers ...string) (answer string, a Agreement) {
	t.Helper()
	u, err := New(Config{Routes: []Route{{Path: "/", Deflate: d}}})
	if err != nil {
		t.Fatal(err)
	}
	head := "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	for _, o := range offers {
		head += "Sec-WebSocket-Extensions: " + o + "\r\n"
	}
	resp, res, err := u.Upgrade(nil, []byte(head+"\r\n"), netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	switch fields := extensionsField.FindAllSubmatch(resp, -1); len(fields) {
	case 0:
	case 1:
		answer = string(fields[0][1])
	default:
		t.Fatalf("%d fields: %s", len(fields), resp)
	}
	return answer, res.Deflate
}

func TestNegotiate(t *testing.T) {
	for _, c := range negotiations {
		answer, a := negotiated(t, &c.d, c.offers...)
		if answer != c.want {
			t.Errorf("%s: %q\n got %q\nwant %q", c.name, c.offers, answer, c.want)
		}
		checkAgreement(t, c.name, answer, a)
		if answer, a := negotiated(t, nil, c.offers...); answer != "" || a != (Agreement{}) {
			t.Errorf("%s: accepted %q where it is off", c.name, answer)
		}
	}
}

// checkAgreement holds what the server will do to what it has told the client.
func checkAgreement(t *testing.T, name, answer string, a Agreement) {
	t.Helper()
	var want Agreement
	if answer != "" {
		want = Agreement{
			Deflate:        true,
			ServerTakeover: !strings.Contains(answer, "server_no_context_takeover"),
			ClientTakeover: !strings.Contains(answer, "client_no_context_takeover"),
			ServerBits:     15, ClientBits: 15,
		}
		for _, p := range strings.Split(answer, "; ") {
			_, _ = fmt.Sscanf(p, "server_max_window_bits=%d", &want.ServerBits)
			_, _ = fmt.Sscanf(p, "client_max_window_bits=%d", &want.ClientBits)
		}
	}
	if a != want {
		t.Errorf("%s: %q agrees on %+v, want %+v", name, answer, a, want)
	}
}

// TestWindowBits tries every value that a window's size might have.
func TestWindowBits(t *testing.T) {
	for _, side := range []string{"server", "client"} {
		for n := range 20 {
			for _, form := range []string{"%d", "0%d", "+%d", "%d.", "%d0", `"%d"`} {
				value := fmt.Sprintf(form, n)
				valid := n >= 8 && n <= 15 && (form == "%d" || form == `"%d"`) || form == "%d0" && n == 1
				answer, _ := negotiated(t, &Deflate{}, "permessage-deflate; "+side+"_max_window_bits="+value)
				if valid != (answer != "") {
					t.Errorf("%s_max_window_bits=%s: %q", side, value, answer)
				}
			}
		}
	}
}

func TestDeflateIsValidated(t *testing.T) {
	for bits, ok := range map[int]bool{-1: false, 0: true, 7: false, 8: true, 15: true, 16: false} {
		err := Config{Routes: []Route{{Path: "/", Deflate: &Deflate{WindowBits: bits}}}}.Validate()
		if (err == nil) != ok {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
}

// FuzzNegotiate looks for offers that make it panic, or agree on what it did not answer.
func FuzzNegotiate(f *testing.F) {
	for _, c := range negotiations {
		f.Add(strings.Join(c.offers, ", "), c.d.ContextTakeover, uint8(c.d.WindowBits))
	}
	f.Fuzz(func(t *testing.T, offers string, takeover bool, bits uint8) {
		if !isExtensionList([]byte(offers)) || strings.ContainsAny(offers, "\r\n") || len(offers) > 4000 {
			return
		}
		d := &Deflate{ContextTakeover: takeover, WindowBits: 8 + int(bits)%8}
		answer, a := negotiated(t, d, offers)
		checkAgreement(t, offers, answer, a)
		if answer != "" && !strings.Contains(offers, "permessage-deflate") {
			t.Fatalf("%q was accepted", offers)
		}
		if a.ServerTakeover && !takeover || a.ClientTakeover && (!takeover || a.ClientBits > uint8(d.WindowBits)) {
			t.Fatalf("%q: %+v", offers, a)
		}
	})
}
