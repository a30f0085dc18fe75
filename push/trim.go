package push

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// trimAfter is how much must have been allocated since the last time until it is worth a collection.
	trimAfter = 2 << 20
	// trimQuiet is how much may be allocated in a second that counts as quiet.
	trimQuiet = 256 << 10
	// trimPause is the least time between two, as is trimShare times what the last one took: at a million connections that
	// is about a second of CPU.
	trimPause = 3 * time.Second
	trimShare = 100
)

// trimmer gives memory back to the kernel once a storm of connects, disconnects or messages is over: Go would keep its
// garbage for minutes, and at hundreds of bytes per idle connection that is as much as the connections themselves.
type trimmer struct {
	last    uint64 // bytes allocated since the start, a second ago
	trimmed uint64 // and when memory was given back
	next    time.Time
	free    func() // gives it back
}

func newTrimmer() *trimmer { return &trimmer{free: freeMemory} }

// freeMemory collects twice, for a sync.Pool gives up what it has with the second collection.
func freeMemory() {
	debug.FreeOSMemory()
	debug.FreeOSMemory()
}

// trim is called once a second with how many bytes the process has allocated since its start.
func (t *trimmer) trim(allocated uint64, now time.Time) {
	quiet := allocated-t.last <= trimQuiet
	t.last = allocated
	if !quiet || allocated-t.trimmed < trimAfter || now.Before(t.next) {
		return
	}
	start := time.Now()
	t.free()
	t.trimmed = allocated
	t.next = now.Add(max(trimPause, trimShare*time.Since(start)))
}

// allocated is how many bytes the process has allocated since its start.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
