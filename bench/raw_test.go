package bench

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestTemplates(t *testing.T) {
	for _, tt := range []struct {
		text string
		fill fill
		want string
		err  bool
	}{
		{"plain", fill{}, "plain", false},
		{`{"n":{n},"i":{i}}`, fill{n: 7, i: 9}, `{"n":7,"i":9}`, false},
		{`{token}{nn}{`, fill{token: "abc"}, `abc{nn}{`, false},
		{`a\n\r\t\\\x00\xfFz`, fill{}, "a\n\r\t\\\x00\xffz", false},
		{`<{pad}>{n}`, fill{n: 12, size: 8}, "<mmmm>12", false},
		{`<{pad}>{n}`, fill{n: 12345, size: 3}, "<>12345", false},
		{`\x{n}`, fill{}, "", true},
		{`a\`, fill{}, "", true},
		{`\q`, fill{}, "", true},
		{`\xg0`, fill{}, "", true},
	} {
		parsed, err := parseTemplate(tt.text)
		if (err != nil) != tt.err {
			t.Errorf("%s: %v", tt.text, err)
		} else if got := string(parsed.append([]byte("before"), tt.fill)); err == nil && got != "before"+tt.want {
			t.Errorf("%s: %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestRawIsChecked(t *testing.T) {
	for _, r := range []Raw{
		{Open: `\q`},
		{Message: `\q`},
		{Count: `\q`},
		{Ready: "("},
		{CountRegexp: "("},
		{Count: "a", CountRegexp: "a"},
		{Answers: []string{"a"}},
		{Answers: []string{"=a"}},
		{Answers: []string{"(=a"}},
		{Answers: []string{`a=\q`}},
	} {
		if r.validate(ProtocolRaw) == nil {
			t.Errorf("%+v is taken", r)
		}
	}
	if (Raw{Open: "a"}).validate(ProtocolEcho) == nil {
		t.Error("raw flags are taken with another protocol")
	}
}

// foreign is a server with a protocol of its own, by another library: who connects with a token says hello, and is
// welcome; then it may ask, between pings of the server, and gets answers, between other messages.
type foreign struct {
	hellos, pongs atomic.Int64
	skip          atomic.Bool // it gives the answer of the message before
}

var asked = regexp.MustCompile(`^ask:(\d+)-(\d+):m*$`)

func (f *foreign) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+r.Header.Get("X-Number")+"-secret" || r.Header.Get("Origin") != "http://here" {
		http.Error(w, "who?", http.StatusUnauthorized)
		return
	}
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"foreign"}})
	if err != nil || c.Subprotocol() != "foreign" {
		return
	}
	defer func() { _ = c.CloseNow() }()
	_, b, err := c.Read(r.Context())
	if err != nil || string(b) != "hello "+r.Header.Get("X-Number") {
		return
	}
	f.hellos.Add(1)
	say := func(text string) bool { return c.Write(r.Context(), websocket.MessageText, []byte(text)) == nil }
	for ok := say("news") && say("welcome"); ok; {
		_, b, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if string(b) == "pong" {
			f.pongs.Add(1)
			continue
		}
		m := asked.FindStringSubmatch(string(b))
		if m == nil || len(b) != 40 || m[1] != r.Header.Get("X-Number") {
			return
		}
		id := m[1] + "-" + m[2]
		if f.skip.Load() {
			id = "0-999999"
		}
		ok = say("ping") && say("news") && say("answer:"+id+";")
	}
}

func (f *foreign) options(t *testing.T) Options {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return Options{
		Target: Target{URL: "ws" + strings.TrimPrefix(s.URL, "http") + "/socket"}, Connections: 3, Duration: 200 * time.Millisecond,
		Protocol: ProtocolRaw, Size: 40, Tokens: []string{"0-secret", "1-secret", "2-secret"}, Headers: []string{"X-Number: {n}"},
		Origin: "http://here", Subprotocol: "foreign",
		Raw: Raw{
			Open: "hello {n}", Ready: "^welcome$", Message: "ask:{n}-{i}:{pad}", Count: "answer:{n}-{i};", Answers: []string{"^ping$=pong"},
		},
	}
}

// Another server, with a protocol that bench does not know, is measured by what is sent and counted.
func TestRaw(t *testing.T) {
	f := &foreign{}
	for _, rate := range []float64{0, 200} {
		o := f.options(t)
		o.Rate = rate
		r, err := measure(t, Echo{NoBare: true}, o)
		if err != nil || figure(t, r, "messages/s") == 0 || figure(t, r, "p50") == 0 || figure(t, r, "lost") != 0 {
			t.Errorf("rate %v: %v, %+v", rate, err, r)
		}
	}
	if f.hellos.Load() != 6 || f.pongs.Load() == 0 {
		t.Errorf("%d hellos, %d pongs", f.hellos.Load(), f.pongs.Load())
	}
	o := f.options(t)
	o.Size, o.Raw.Message, o.Raw.Count = 0, "", ""
	r, err := measure(t, Idle{Settle: time.Millisecond}, o)
	if err == nil && figure(t, r, "open") != 3 || err != nil && !strings.Contains(fmt.Sprint(err), "first connection") {
		t.Errorf("%v, %+v", err, r)
	}
}

// An answer that is not that of the message is none.
func TestRawWithWrongAnswers(t *testing.T) {
	f := &foreign{}
	f.skip.Store(true)
	o := f.options(t)
	o.Timeout = 300 * time.Millisecond
	r, err := measure(t, Echo{NoBare: true}, o)
	if err == nil || len(r.Errors) == 0 {
		t.Errorf("%v, %+v", err, r)
	}
}

// Connections that the server refuses say so by the status.
func TestRawRefused(t *testing.T) {
	o := (&foreign{}).options(t)
	o.Tokens = nil
	r, err := measure(t, Echo{NoBare: true}, o)
	if err == nil || r.Errors["refused with 401 Unauthorized"] != 3 {
		t.Errorf("%v, %v", err, r.Errors)
	}
}
