package bench

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/millpond/millpond/bench/report"
	"github.com/millpond/millpond/poller"
)

// loadOf is a part in this process that echoes.
func loadOf(t *testing.T, target Target, connections int) *local {
	t.Helper()
	l, err := newLocal(t.Context(), plan{
		Job: "load", Target: target, Connections: connections, Share: 1, Config: json.RawMessage(`{"greet":true}`),
		Options: Options{Protocol: ProtocolEcho, Size: 64, Timeout: time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// heap is what is live.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the first one has found dead may still be counted
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// An open connection of the load takes at most 512 B, the bookkeeping of the bare server in this process with it.
func TestMemoryOfConnections(t *testing.T) {
	const connections = 4000
	target := Target{URL: bare(t)}
	before := heap()
	l := loadOf(t, target, connections)
	fixed := heap() - before
	if _, err := l.order(t.Context(), "open", json.RawMessage(`{}`)); err != nil {
		t.Fatal(err)
	}
	if n := l.part.fleet.open.Load(); n != connections {
		t.Fatalf("%d open: %v", n, l.part.faults.all())
	}
	each := (int64(heap()) - int64(before) - int64(fixed)) / connections
	t.Logf("%d B for each, %d B of them the client; %d KiB for all", each, unsafe.Sizeof(client{}), fixed>>10)
	if each > 512 {
		t.Errorf("%d B for each connection, at most 512", each)
	}
	if n := runtime.NumGoroutine(); n > 100 {
		t.Errorf("%d goroutines", n)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
}

// A subscriber of two channels, one of them its own, takes at most 260 B beside what the poller has for its connection,
// and the two epochs: with those it is half of what a server has for it.
func TestMemoryOfSubscribers(t *testing.T) {
	const subscribers = 4000
	before := heap()
	l, err := newLocal(t.Context(), plan{
		Job: crowdJob, Target: Target{URL: "ws://127.0.0.1:1"}, Connections: subscribers, Share: 1,
		Config: json.RawMessage(`{"Channels":4001,"Each":2,"Personal":true,"Shared":1,"Publishers":1}`), Options: Options{Protocol: ProtocolJSON, Timeout: time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	const fixed = 1 << 20 // the loops, and the distribution of latencies
	each := max(int64(heap())-int64(before)-fixed, 0)/subscribers + int64(unsafe.Sizeof(visit{}))
	t.Logf("%d B for each, %d B of them its connection", each, unsafe.Sizeof(visit{}))
	if each > 260 || unsafe.Sizeof(visit{}) > 128 {
		t.Errorf("%d B for each subscriber, at most 260; %d B of them its connection, at most 128", each, unsafe.Sizeof(visit{}))
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
}

// A message that the load's own queue does not take was never sent: it is the load's, and not lost.
func TestJammedMessagesAreTheLoads(t *testing.T) {
	target := accepting(t, func(c net.Conn) { // it opens, and reads nothing more
		_, _ = bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+string(acceptKey())+"\r\n\r\n")
	})
	for _, raw := range []bool{false, true} {
		o := Options{Protocol: ProtocolEcho, Size: 64, Timeout: time.Minute}
		if raw {
			o.Protocol, o.Raw.Message = ProtocolRaw, "a"
		}
		l, err := newLocal(t.Context(), plan{Job: "load", Target: target, Connections: 2, Share: 1, Config: json.RawMessage(`{}`), Options: o})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.order(t.Context(), "open", json.RawMessage(`{}`)); err != nil {
			t.Fatal(err)
		}
		load := l.job.(*load)
		for _, c := range load.clients {
			for frame := make([]byte, 64<<10); err == nil; {
				_, err = c.conn.Send(frame, poller.Out{})
			}
			if !errors.Is(err, poller.ErrQueueFull) {
				t.Fatal(err)
			}
			err = nil
		}
		for range 10 { // not at a rate: of that a busy machine leaves some unsent
			c := load.free(load.clients)
			if c == nil {
				t.Fatal("a connection whose message was refused is not free")
			}
			c.send(time.Since(began))
		}
		if _, err := l.order(t.Context(), "rest", nil); err != nil {
			t.Fatal(err)
		}
		if load.jammed.Load() != 10 || load.sent.Load() != 0 || load.lost.Load() != 0 || len(l.part.faults.all()) > 0 {
			t.Errorf("%d jammed, %d sent, %d lost: %v", load.jammed.Load(), load.sent.Load(), load.lost.Load(), l.part.faults.all())
		}
		r := Run{Report: report.New("echo", 2)}
		if r.paceFigures(l.part.collect(false)); len(r.Report.Warnings) == 0 || !strings.Contains(r.Report.Warnings[0], "the load was the bottleneck") {
			t.Errorf("%q", r.Report.Warnings)
		}
		if len(r.Report.Errors) != 1 {
			t.Errorf("a run without a message went well: %v", r.Report.Errors)
		}
		load.clients[0].mustSend([]byte{1}) // as what a connection cannot go on without
		jammed := func() bool { return l.part.faults.all()[errJammed.Error()] == 1 }
		if err := await(t.Context(), 30*time.Second, jammed); err != nil || !jammed() {
			t.Errorf("%v: %v", err, l.part.faults.all())
		}
		if err := l.close(); err != nil {
			t.Errorf("%v: %v", err, l.part.faults.all())
		}
	}
}
