package poller

import (
	"bytes"
	"testing"
)

// reported is a tape that keeps what it is told of what leaves.
type reported struct {
	tape
	sent []byte // guarded by Conn.mu
}

func (r *reported) OnSent(b []byte) { r.sent = append(r.sent, b...) }

func (r *reported) all() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.sent)
}

// What is reported is what the peer reads, in whatever way it was sent, from the start of the buffer that was leaving.
func TestReportSent(t *testing.T) {
	p := newPoller(t, Config{Loops: 1, Limits: Limits{Bytes: 1 << 23}})
	fd, peer := tcpPair(t, 4096, 4096)
	e := &reported{}
	if err := p.Attach(&e.Conn, fd, e, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(nil); e.waitClosed(t) })
	before := string(randomBytes(1, 4<<20)) // more than the kernel takes at once
	if _, err := e.Send([]byte(before), Out{}); err != nil {
		t.Fatal(err)
	}
	var partial []byte
	waiting := 0
	if !e.ReportSent(func(first []byte, sent, n int) { partial, waiting = bytes.Clone(first[:sent]), n }) {
		t.Fatal("the connection is closed")
	}
	if n, _, _ := e.Waiting(); n != waiting {
		t.Errorf("%d bytes wait, reported were %d", n, waiting)
	}
	var after bytes.Buffer
	for i := range 40 {
		b := randomBytes(uint64(1000+i), 700*(i+1)%9000+2)
		after.Write(b)
		var err error
		switch i % 3 {
		case 0:
			_, err = e.Send(b, Out{})
		case 1:
			_, err = e.SendCopy(b[:1], b[1:], Out{})
		default:
			_, err = e.SendAll([][]byte{b[:1], b[1:]}, Out{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	readFull(t, peer, before+after.String())
	want := before[len(before)-waiting-len(partial):] + after.String()
	if !until(func() bool { return string(partial)+e.all() == want }) {
		t.Errorf("%d bytes were reported, want %d", len(partial)+len(e.all()), len(want))
	}
	if len(partial) == 0 {
		t.Error("no buffer was half sent: the test shows less than it should")
	}
	e.StopReporting()
	if err := e.SendLast([]byte("last"), false); err != nil {
		t.Fatal(err)
	}
	readFull(t, peer, "last")
	if got := e.all(); string(partial)+got != want {
		t.Errorf("something was reported afterwards")
	}
}

// A cork buffer that the kernel takes in part keeps its beginning, for ReportSent.
func TestReportSentAfterCork(t *testing.T) {
	p := newPoller(t, Config{Loops: 1, Limits: Limits{Bytes: 1 << 22}})
	fd, peer := tcpPair(t, 4096, 4096)
	e := &reported{}
	corked := randomBytes(7, 50_000)
	e.onData = func([]byte) {
		e.Cork()
		for b := corked; len(b) > 0; b = b[1000:] {
			_, _ = e.Send(b[:1000], Out{})
		}
	}
	if err := p.Attach(&e.Conn, fd, e, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(nil); e.waitClosed(t) })
	poke(t, peer)
	if !until(func() bool { n, _, _ := e.Waiting(); return n > 0 }) {
		t.Fatal("nothing waits")
	}
	var partial []byte
	waiting := 0
	e.ReportSent(func(first []byte, sent, n int) { partial, waiting = bytes.Clone(first[:sent]), n })
	if string(partial) != string(corked[:len(corked)-waiting]) {
		t.Errorf("%d bytes have left, %d of them reported", len(corked)-waiting, len(partial))
	}
	readFull(t, peer, string(corked))
	if !until(func() bool { return string(partial)+e.all() == string(corked) }) {
		t.Errorf("%d bytes were reported, want %d", len(partial)+len(e.all()), len(corked))
	}
}
