package tap

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/session"
)

// A capture has the connections that it asks for, and no others.
func TestFilters(t *testing.T) {
	b := start(t, Limits{StartsPerMinute: 1e9}, session.Endpoint{Path: "/echo", Handler: echo{}, Inline: true}, session.Endpoint{Path: "/push", Handler: echo{}})
	one, two := b.dial("/echo"), b.dial("/push")
	b.mu.Lock()
	b.users[one.session.ID()] = "ada"
	b.channels["news"] = []uint64{one.session.ID(), two.session.ID()}
	b.mu.Unlock()
	id := connectionID(two.session.ID())
	for query, want := range map[string][]bool{
		"":                                    {true, true},
		"user=ada":                            {true, false},
		"id=" + id:                            {false, true},
		"path=/push":                          {false, true},
		"channel=news":                        {true, true},
		"channel=news&user=ada":               {true, false},
		"channel=news&path=/push":             {false, true},
		"user=ada&path=/push":                 {false, false},
		"address=127.0.0.0/8":                 {true, true},
		"address=127.0.0.1":                   {true, true},
		"address=::ffff:127.0.0.1&user=ada":   {true, false},
		"address=10.0.0.0/8":                  {false, false},
		"channel=other":                       {false, false},
		"id=" + id + "&user=ada&channel=news": {false, false},
		"id=" + connectionID(one.session.ID()) + "&user=ada&channel=news": {true, false},
	} {
		r := b.capture("/tap?" + query)
		n := 0
		for _, in := range want {
			if in {
				n++
			}
		}
		b.attached(n)
		mark := "mark " + query
		for _, c := range []*wire{one, two} {
			c.send(text(mark))
			c.next()
		}
		got := map[string]bool{}
		for len(got) < n {
			got[r.frame(mark).Connection] = true
		}
		for i, c := range []*wire{one, two} {
			if got[connectionID(c.session.ID())] != want[i] {
				t.Errorf("%s: %v, want %v", query, got, want)
			}
		}
		_ = r.body.Close()
		b.attached(0)
	}
}

// Connections that open later are seen from their opening on, also where it is known only afterwards whose they are.
func TestOpensLater(t *testing.T) {
	b := start(t, Limits{})
	r := b.capture("/tap?user=ada")
	c := b.dial("/echo")
	c.send(text("first"))
	c.next()
	other := b.dial("/echo")
	other.send(text("somebody else"))
	other.next()
	b.mu.Lock()
	b.users[c.session.ID()] = "ada"
	b.mu.Unlock()
	open := r.until("opening", func(l Line) bool { return l.Type == "open" })
	if open.Synthesised || open.User != "ada" || open.Connection != connectionID(c.session.ID()) || !strings.Contains(open.Request, "GET /echo") {
		t.Errorf("%+v", open)
	}
	if open.Accept != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || !strings.Contains(open.Response, open.Accept) {
		t.Errorf("accept %q in %s", open.Accept, open.Response)
	}
	r.frame("first")
	if strings.Contains(r.words(), "somebody else") {
		t.Errorf("got %s", r.words())
	}
	// Who somebody is may change, too.
	b.mu.Lock()
	b.users[c.session.ID()] = "grace"
	b.mu.Unlock()
	r.until("who", func(l Line) bool { return l.Type == "who" && l.User == "grace" })
	_ = c.Close()
	r.until("end", func(l Line) bool { return l.Type == "end" && l.Kind == "peer_gone" })
	b.attached(0)
}

// Those that nobody knows yet do not take the places of others.
func TestUnknownConnectionsTakeNoPlace(t *testing.T) {
	b := start(t, Limits{})
	r := b.capture("/tap?user=ada&connections=1")
	b.dial("/echo")
	c := b.dial("/echo")
	c.send(text("first"))
	c.next()
	b.mu.Lock()
	b.users[c.session.ID()] = "ada"
	b.mu.Unlock()
	if open := r.until("opening", func(l Line) bool { return l.Type == "open" }); open.Synthesised {
		t.Errorf("%+v", open)
	}
	r.frame("first")
}

// One of so many is chosen at random, and at most so many at a time.
func TestSampleAndLimit(t *testing.T) {
	b := start(t, Limits{})
	for range 60 {
		b.dial("/echo")
	}
	r := b.capture("/tap?sample=3")
	b.until("some are attached", func() bool { n := b.taps.Stats().Connections; return n > 3 && n < 50 })
	_ = r.body.Close()
	b.attached(0)
	r = b.capture("/tap?connections=7")
	b.attached(7)
	b.dial("/echo")
	r.until("seven", func(l Line) bool { return l.Type == "open" })
	if n := b.taps.Stats().Connections; n != 7 {
		t.Errorf("%d connections", n)
	}
}

// Without the scope for payloads there are none, not even in close frames, and no secrets of opening requests.
func TestRedaction(t *testing.T) {
	for _, c := range []struct {
		query   string
		payload bool
		limit   int
		shown   string
		secrets bool
	}{
		{"", false, 0, "", false},
		{"", false, 3, "top", false},
		{"payload_bytes=1", false, 3, "t", false},
		{"", true, 0, "top secret", false},
		{"payload_bytes=4", true, 0, "top ", false},
		{"payload_bytes=-1&secrets=true", true, 0, "top secret", true},
	} {
		b := start(t, Limits{PayloadBytes: c.limit})
		b.caller.Payload = c.payload
		r := b.capture("/tap?" + c.query)
		client := b.dial("/echo?channels=a&token=hush1&api%5Fkey=hush2", "Authorization: Bearer hush3\r\n", "Cookie: sid=hush4\r\n",
			"Sec-WebSocket-Protocol: v1, "+strings.Repeat("hush5", 20)+"\r\n", "X-Custom-Token: hush6\r\n")
		client.send(text("top secret"))
		client.next()
		client.send(masked(codec.OpClose, true, "\x0f\xa1hush7"))
		client.next()
		var lines []Line
		r.until("close", func(l Line) bool { lines = append(lines, l); return l.Type == "frame" && l.Name == "close" })
		all, _ := json.Marshal(lines)
		open, frame, closing := lines[0], lines[1], lines[len(lines)-1]
		if n := strings.Count(open.Request, "hush"); c.secrets != (n > 0) || !c.secrets && strings.Count(open.Request, redacted) != 6 {
			t.Errorf("%+v: %s", c, open.Request)
		}
		if open.Key == "" || !strings.Contains(open.Request, "channels=a&token=") || !strings.Contains(open.Request, open.Key) {
			t.Errorf("%+v: %s", c, open.Request)
		}
		if frame.Text == nil || *frame.Text != c.shown || int(frame.Hidden) != 10-len(c.shown) || len(frame.Wire) != len(c.shown) || *frame.Length != 10 {
			t.Errorf("%+v: %s", c, all)
		}
		whole := c.payload && c.shown == "top secret"
		if closing.Code != 4001 || (closing.Reason == "hush7") != whole || strings.Contains(string(all), base64.StdEncoding.EncodeToString([]byte("hush7"))) {
			t.Errorf("%+v: %+v", c, closing)
		}
	}
}

// Of each message so much is shown, in however many fragments it comes and however small it is when compressed.
func TestRedactionOfMessages(t *testing.T) {
	b := start(t, Limits{PayloadBytes: 4}, session.Endpoint{Path: "/echo", Handler: echo{}, Compression: &session.Compression{MinBytes: 1}})
	b.caller.Payload = false
	r, pcap := b.capture("/tap"), b.capture("/tap?format=pcapng")
	c := b.dial("/echo", "Sec-WebSocket-Extensions: permessage-deflate\r\n")
	b.attached(2)
	const secret = "hushhushhushhushhushhushhushhush"
	c.send(masked(codec.OpText, false, "hush"), masked(codec.OpContinuation, false, "HUSH"), masked(codec.OpContinuation, true, "HUSH"))
	small := newDeflater().message(secret)
	c.send(compressed(masked(codec.OpText, true, small)), compressed(masked(codec.OpText, false, small[:2])), masked(codec.OpContinuation, true, small[2:]))
	c.send(masked(codec.OpClose, true, "\x03\xe8"))
	_, _ = io.Copy(io.Discard, c)
	_ = c.Close()
	r.until("end", func(l Line) bool { return l.Type == "end" })
	for _, l := range r.got {
		if shown := string(l.Data) + string(l.Wire); l.Type == "frame" && (len(shown) > 8 || *l.RSV != 0 && shown != "") {
			t.Errorf("%+v shows %q", l, shown)
		}
		if l.Text != nil && strings.Contains(*l.Text, "HUSH") || l.Message != nil && (l.Message.Text == nil || *l.Message.Text != "hush" && *l.Message.Text != "") {
			t.Errorf("%+v", l)
		}
	}
	var capture []byte
	b.until("the capture has the end", func() bool {
		part := make([]byte, 4096)
		n, _ := pcap.in.Read(part)
		capture = append(capture, part[:n]...)
		return bytes.Contains(capture, []byte("the connection ended"))
	})
	path := filepath.Join(t.TempDir(), "capture")
	if err := os.WriteFile(path, capture, 0o600); err != nil {
		t.Fatal(err)
	}
	said, _, _ := packets(t, path)
	frames := 0
	for side, all := range said {
		_, rest, _ := strings.Cut(all, "\r\n\r\n")
		for b := []byte(rest); len(b) > 0; frames++ {
			n := codec.HeaderBytes(b)
			h := codec.ReadHeader(b[:n])
			payload := b[n : n+int(h.Length)]
			b = b[n+int(h.Length):]
			if h.Masked {
				codec.Mask(payload, h.Mask)
			}
			shown := strings.Trim(string(payload), "x")
			if first := h.Opcode != codec.OpContinuation; first && !h.Fin && shown == "h" || !first && h.Fin && shown == "ush" {
				shown = "hush" // in two frames, for it was compressed
			}
			if h.RSV != 0 || h.Opcode != codec.OpClose && shown != "" && shown != "hush" {
				t.Errorf("the capture has %q from %s, %+v", payload, side, h)
			}
		}
	}
	if frames < 10 {
		t.Errorf("%d frames", frames)
	}
}

// What is secret in an opening request is not shown, however it is written.
func TestRedactionOfRequests(t *testing.T) {
	const first = "GET /echo HTTP/1.1\r\n"
	for _, in := range []string{
		"GET /push?token=hush&channels=a HTTP/1.1\r\n", "GET /push?a=1,2&token=hush HTTP/1.1\r\n", "GET /push?a=1;2&to%6Ben=hush HTTP/1.1\r\n",
		"GET /push?token=a#hush HTTP/1.1\r\n", "GET /push?inspect=hush HTTP/1.1\r\n", "GET /live?ticket=hush HTTP/1.1\r\n",
		first + "Authorization: Bearer hush\r\n", first + "AUTHORIZATION : Bearer hush\r\n", first + "Cookie: a=1;\r\n b=hush\r\n", first + "Cookie: a=1;\r\n\tb=hush\r\n c:hush\r\n",
		first + "X-A: b\nAuthorization: hush\r\n", first + "Referer: https://x/?token=hush\r\n", first + "X-Original-URL: /push?channels=a&token=hush\r\n",
		first + "X-Forwarded-Uri: /push?token=hush HTTP/1.1\r\n", first + "X-A: https://x/?u=https://y/?token=hush\r\n", first + "X-A: b\r\n c?token=hush\r\n",
		first + "Sec-WebSocket-Protocol: a, " + strings.Repeat("hush", 20) + "\r\n", first + "X-API-Key: hush\r\n", first + "X-Auth-Request-Access-Token: hush\r\n",
	} {
		if out := string(Redaction{}.opening([]byte(in + "\r\n"))); strings.Contains(out, "hush") || !strings.Contains(out, redacted) || !strings.HasSuffix(out, "\r\n\r\n") {
			t.Errorf("%q becomes %q", in, out)
		}
		if out := string(Redaction{Secrets: true}.opening([]byte(in))); out != in {
			t.Errorf("%q becomes %q", in, out)
		}
	}
	const plain = "GET /push?channels=a,b&since=c HTTP/1.1\r\nHost: x\r\nUser-Agent: who? me\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		"Sec-WebSocket-Protocol: v1, v2\r\nX-A: b\r\n c\r\n\r\n"
	if out := string(Redaction{}.opening([]byte(plain))); out != plain {
		t.Errorf("%q becomes %q", plain, out)
	}
}

// Of connections that nobody knows yet little is kept: one with more is not looked on at until it is known.
func TestUnknownConnectionsAreBounded(t *testing.T) {
	b := start(t, Limits{BufferBytes: 64 << 10 * 4, FrameBytes: 64 << 10})
	r := b.capture("/tap?user=ann")
	quiet, loud, mark := b.dial("/echo"), b.dial("/echo"), b.dial("/echo")
	for range 4 {
		loud.send(text(strings.Repeat("x", 4000)))
		loud.next()
	}
	b.mu.Lock()
	b.users[mark.session.ID()] = "ann"
	b.mu.Unlock()
	r.until("the one that is known", func(l Line) bool { return l.Type == "open" })
	mark.send(text("mark"))
	r.frame("mark") // after all that was before
	b.mu.Lock()
	b.users[quiet.session.ID()], b.users[loud.session.ID()] = "ann", "ann"
	b.mu.Unlock()
	seen := map[string]bool{}
	r.until("the others", func(l Line) bool {
		if l.Type == "open" {
			seen[l.Connection] = l.Synthesised
		}
		return len(seen) == 2
	})
	if seen[connectionID(quiet.session.ID())] || !seen[connectionID(loud.session.ID())] {
		t.Errorf("synthesised: %v", seen)
	}
}

// Who cannot be asked for a key is told nothing.
func TestAnyErrorRefuses(t *testing.T) {
	b := start(t, Limits{})
	b.err = errors.New("hush")
	response, err := b.http.Client().Get(b.http.URL + "/tap")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); response.StatusCode != 403 || strings.Contains(string(body), "hush") || b.taps.Stats().Started != 0 {
		t.Errorf("%s %s", response.Status, body)
	}
}

// Strangers, who need no key for the playground, fill nobody's audit log.
func TestInspectorsAreRateLimited(t *testing.T) {
	b := start(t, Limits{StartsPerMinute: 0.001})
	got := map[int]int{}
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		request, _ := http.NewRequestWithContext(ctx, http.MethodGet, b.http.URL+"/playground/tap?inspect="+strings.Repeat("a", 22), nil)
		response, err := b.http.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		got[response.StatusCode]++
		cancel()
		_ = response.Body.Close()
		b.until("it has ended", func() bool { return b.taps.Stats().Inspectors == 0 })
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if got[200] != 10 || got[429] != 10 || len(b.acts) > 20 {
		t.Errorf("%v, %d acts", got, len(b.acts))
	}
}

// Nobody gets more than the key is good for, and every question that makes no sense has an answer that says so.
func TestRefusals(t *testing.T) {
	b := start(t, Limits{PayloadBytes: 5})
	for _, c := range []struct {
		method, query string
		payload       bool
		err           error
		status        int
		text          string
	}{
		{"POST", "", true, nil, 405, "GET"},
		{"GET", "", true, &Error{Status: 401, Reason: "unauthorized", Text: "who are you"}, 401, "who are you"},
		{"GET", "payload_bytes=6", false, nil, 403, "tap_payload"},
		{"GET", "payload_bytes=-1", false, nil, 403, "tap_payload"},
		{"GET", "secrets=true", false, nil, 403, "tap_payload"},
		{"GET", "payload_bytes=-2", true, nil, 400, "less than -1"},
		{"GET", "secrets=perhaps", true, nil, 400, "secrets"},
		{"GET", "format=pcap", true, nil, 400, "pcapng"},
		{"GET", "address=1.2.3", true, nil, 400, "address"},
		{"GET", "sample=x", true, nil, 400, "no number"},
		{"GET", "sample=-1", true, nil, 400, "less than 0"},
		{"GET", "duration=-1s", true, nil, 400, "not positive"},
		{"GET", "duration=soon", true, nil, 400, "duration"},
		{"GET", "count=-1", true, nil, 400, "negative"},
		{"GET", "connections=0", true, nil, 400, "less than 1"},
		{"GET", "usr=ada", true, nil, 400, "no parameter"},
		{"GET", "user=a&user=b", true, nil, 400, "twice"},
		{"GET", "user=%zz", true, nil, 400, "query"},
		{"GET", "user=" + strings.Repeat("a", 600), true, nil, 400, "512"},
	} {
		b.mu.Lock()
		b.caller.Payload, b.err = c.payload, c.err
		b.mu.Unlock()
		request, _ := http.NewRequest(c.method, b.http.URL+"/tap?"+c.query, nil)
		response, err := b.http.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		var answer struct{ Error struct{ Message string } }
		if err := json.Unmarshal(body, &answer); err != nil || response.StatusCode != c.status || !strings.Contains(answer.Error.Message, c.text) {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.query, response.StatusCode, body, c.status, c.text)
		}
	}
	if st := b.taps.Stats(); st.Refused["unauthorized"] != 1 || st.Refused["forbidden"] != 3 || st.Refused["bad_request"] < 10 || st.Started != 0 {
		t.Errorf("%+v", st)
	}
}

// So many captures run at a time, and begin in a minute.
func TestBounds(t *testing.T) {
	b := start(t, Limits{MaxCaptures: 1, StartsPerMinute: 0.001})
	if r := b.taps.starts.Limit(); r != 0.001/60 {
		t.Errorf("%v begin in a second", r)
	}
	get := func() int {
		response, err := b.http.Client().Get(b.http.URL + "/tap?duration=1ms")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	r := b.capture("/tap")
	if status := get(); status != 503 {
		t.Errorf("a second one: %d", status)
	}
	_ = r.body.Close()
	b.until("it has ended", func() bool { return b.taps.Stats().Captures == 0 })
	status := 200
	begun := 1
	for ; begun < 20 && status == 200; begun++ {
		status = get()
	}
	if status != 429 || begun != 11 {
		t.Errorf("the capture %d: %d", begun, status)
	}
	if st := b.taps.Stats(); st.Refused["captures"] != 1 || st.Refused["rate"] == 0 {
		t.Errorf("%+v", st)
	}
}

// A capture ends by itself, and says why; the audit log says who it was, and when.
func TestEnds(t *testing.T) {
	b := start(t, Limits{MaxDuration: 50 * time.Millisecond})
	r := b.capture("/tap?duration=1h&user=ada")
	if l := r.until("done", func(l Line) bool { return l.Type == "done" }); l.Reason != "duration" || *l.Frames != 0 {
		t.Errorf("%+v", l)
	}
	b = start(t, Limits{})
	c := b.dial("/echo")
	r = b.capture("/tap?count=3")
	b.attached(1)
	for range 3 {
		c.send(text("x"))
		c.next()
	}
	if l := r.until("done", func(l Line) bool { return l.Type == "done" }); l.Reason != "count" || *l.Frames != 3 || *l.Connections != 1 {
		t.Errorf("%+v", l)
	}
	r = b.capture("/tap")
	b.taps.Stop()
	if l := r.until("done", func(l Line) bool { return l.Type == "done" }); l.Reason != "shutdown" {
		t.Errorf("%+v", l)
	}
	b.until("the audit log has all", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.acts) == 4 })
	words := ""
	for _, a := range b.acts {
		words += a.Action + " " + a.Key + " " + a.Outcome
		for _, attr := range a.Target {
			words += fmt.Sprintf(" %s=%v", attr.Key, attr.Value)
		}
		if a.Remote == "" {
			t.Error("no remote address")
		}
		words += "\n"
	}
	for _, want := range []string{
		"tap_start test ok filter=all format=ndjson payload=true secrets=false\n",
		"tap_stop test ok filter=all format=ndjson payload=true secrets=false reason=count connections=1 frames=3 dropped=0 duration=",
	} {
		if !strings.Contains(words, want) {
			t.Errorf("audit\n%swant %s", words, want)
		}
	}
}

// What is more than a capture may show in a second is left out, and counted as a gap.
func TestBudget(t *testing.T) {
	b := start(t, Limits{BytesPerSecond: 2000, FrameBytes: 1000})
	c := b.dial("/echo")
	r := b.capture("/tap")
	b.attached(1)
	const n = 40
	for range n {
		c.send(text(strings.Repeat("x", 900)))
		c.next()
	}
	b.until("all were seen", func() bool { st := b.taps.Stats(); return st.Frames+st.Dropped == 2*n })
	if st := b.taps.Stats(); st.Dropped < n || st.Frames < 4 {
		t.Errorf("%+v", st)
	}
	_ = c.Close()
	lost := int64(0)
	r.until("end", func(l Line) bool {
		if l.Type == "gap" {
			lost += *l.Frames
		}
		return l.Type == "end"
	})
	if lost != b.taps.Stats().Dropped {
		t.Errorf("gaps of %d frames, dropped %d", lost, b.taps.Stats().Dropped)
	}
}

// A reader that reads nothing holds nobody up: frames are left out, and the connection goes on.
func TestSlowReader(t *testing.T) {
	b := start(t, Limits{BufferBytes: 20_000})
	c := b.dial("/echo")
	r := b.capture("/tap")
	b.attached(1)
	before := b.taps.Stats()
	for range 2000 {
		c.send(text(strings.Repeat("x", 4000)))
		c.next()
	}
	_ = before
	c.send(text("mark"))
	c.next()
	_ = c.Close()
	frames, lost := int64(0), int64(0)
	r.until("end", func(l Line) bool {
		switch l.Type {
		case "gap":
			lost += *l.Frames
		case "frame":
			frames++
		}
		return l.Type == "end"
	})
	if frames+lost != 4002 || lost == 0 {
		t.Errorf("%d frames, %d lost", frames, lost)
	}
}

// The playground sees the connection whose opening request has its token, and no other, and only a page of the same origin does.
func TestInspector(t *testing.T) {
	b := start(t, Limits{MaxInspectors: 1})
	token := strings.Repeat("A-_b", 6)
	for query, want := range map[string]int{
		"": 400, "?inspect=short": 400, "?inspect=" + strings.Repeat("a", 65): 400, "?inspect=" + strings.Repeat("a", 21) + "%20": 400,
	} {
		response, err := b.http.Client().Get(b.http.URL + "/playground/tap" + query)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%q: %d", query, response.StatusCode)
		}
	}
	response, err := b.http.Client().Post(b.http.URL+"/playground/tap?inspect="+token, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != 405 || response.Header.Get("Allow") != "GET" {
		t.Errorf("a POST: %d", response.StatusCode)
	}
	for _, header := range [][2]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Sec-Fetch-Site", "none"},
		{"Origin", "https://elsewhere.example"},
		{"Origin", "null"},
		{"Origin", b.http.URL + "0"},
	} {
		request, _ := http.NewRequest(http.MethodGet, b.http.URL+"/playground/tap?inspect="+token, nil)
		request.Header.Set(header[0], header[1])
		response, err := b.http.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != 403 {
			t.Errorf("%s: %d", header, response.StatusCode)
		}
	}
	for _, own := range []string{"", b.http.URL} {
		request, _ := http.NewRequest(http.MethodGet, b.http.URL, nil)
		request.Header.Set("Origin", own)
		if fromAnotherOrigin(request) {
			t.Errorf("%q is refused", own)
		}
	}
	before := b.dial("/echo?inspect=" + token) // before the capture: a token that was read somewhere is of no use
	r := b.capture("/playground/tap?inspect=" + token)
	others := []*wire{before, b.dial("/echo"), b.dial("/echo?inspect=" + token + "x"), b.dial("/echo?a=inspect=" + token), b.dial("/echo", "X: ?inspect="+token+"\r\n")}
	own := b.dial("/echo?a=b&inspect=" + token)
	for _, c := range append(others, own) {
		c.send(text("hello"))
		c.next()
	}
	if open := r.until("open", func(l Line) bool { return l.Type == "open" }); open.Connection != connectionID(own.session.ID()) || open.Synthesised {
		t.Errorf("%+v", open)
	}
	own.send(text("mark"))
	own.next()
	r.frame("mark")
	for _, l := range r.got {
		if l.Connection != "" && l.Connection != connectionID(own.session.ID()) {
			t.Errorf("%+v", l)
		}
	}
	if st := b.taps.Stats(); st.Inspectors != 1 || st.Captures != 0 || st.Connections != 1 {
		t.Errorf("%+v", st)
	}
	if response, err = b.http.Client().Get(b.http.URL + "/playground/tap?inspect=" + token); err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != 503 {
		t.Errorf("a second page: %d", response.StatusCode)
	}
}

// A connection is the page's if the query of its request line has the token under the parameter's name, in whatever place.
func TestHasToken(t *testing.T) {
	for head, want := range map[string]bool{
		"GET /echo?inspect=abc HTTP/1.1\r\n": true, "GET /echo?inspect=abc&a=b HTTP/1.1\r\n": true, "GET /echo?a=b&inspect=abc HTTP/1.1\r\n": true,
		"GET /echo?inspect=x&inspect=abc HTTP/1.1\r\n": true, "GET /echo?other=abc HTTP/1.1\r\n": false, "GET /echo?inspect=abcd HTTP/1.1\r\n": false,
		"GET /echo?inspect=ab HTTP/1.1\r\n": false, "GET /echo?abc HTTP/1.1\r\n": false, "GET /inspect=abc HTTP/1.1\r\n": false, "GET /echo HTTP/1.1\r\nX: a ?inspect=abc\r\n": false,
		"GET": false, "": false,
	} {
		if got := hasToken([]byte(head), "abc"); got != want {
			t.Errorf("%q: %v", head, got)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"10.1.2.3": "10.1.2.3/32", "10.1.2.3/8": "10.0.0.0/8", "::1": "::1/128", "2001:db8::/32": "2001:db8::/32", "::ffff:1.2.3.4": "1.2.3.4/32",
		"::ffff:10.1.2.3/104": "10.0.0.0/8", "::ffff:0:0/96": "0.0.0.0/0", "::/0": "::/0",
		"": "", "x": "", "1.2.3.4/33": "",
	} {
		p, err := ParseAddress(in)
		if (err != nil) != (want == "") || want != "" && p != netip.MustParsePrefix(want) {
			t.Errorf("%q: %v, %v", in, p, err)
		}
	}
}

func TestLimitsAreValidated(t *testing.T) {
	if err := (Limits{MaxCaptures: -1, MaxInspectors: -1}).Validate(); err != nil {
		t.Error(err)
	}
	err := Limits{MaxConnections: -1, BytesPerSecond: -1, BufferBytes: -1, FrameBytes: -1, MaxDuration: -1, PayloadBytes: -1, StartsPerMinute: -1}.Validate()
	for _, name := range []string{"connections", "bytes-per-second", "buffer", "frame", "duration", "payload", "starts"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A unix socket's connections are captured as well.
func TestUnixSocket(t *testing.T) {
	b := startOn(t, "unix:"+filepath.Join(t.TempDir(), "s"), false, Limits{})
	c := b.dial("/echo")
	r := b.capture("/tap")
	open := r.until("open", func(l Line) bool { return l.Type == "open" })
	c.send(text("over a file"))
	c.next()
	r.frame("over a file")
	if open.Remote != "" || !open.Synthesised {
		t.Errorf("%+v", open)
	}
}
