package bench

import (
	"encoding/json"
	"runtime"
	"testing"
	"time"
	"unsafe"
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
