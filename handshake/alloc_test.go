//go:build !race

// The race detector makes sync.Pool forget at random, so budgets hold without it.

package handshake

import "testing"

func TestAllocations(t *testing.T) {
	u := mustNew(t, testConfig())
	for _, c := range []struct {
		name   string
		head   string
		budget float64
	}{
		{"bare", valid, 1},
		{"browser", browser, 1},
		{"browser with a pattern of origins", someOrigin, 2},
		{"connection in two lines", sub("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade"), 1},
		{"refused", sub("Version: 13", "Version: 8"), 1},
		{"garbage", garbage, 0},
	} {
		dst := make([]byte, 0, 1024)
		head := []byte(c.head)
		if got := testing.AllocsPerRun(200, func() { _, _, _ = u.Upgrade(dst, head, somePeer) }); got > c.budget {
			t.Errorf("%s: %v allocations, want %v at most", c.name, got, c.budget)
		}
		if got := testing.AllocsPerRun(200, func() { HeaderEnd(head, 0); IsUpgrade(head) }); got > 0 {
			t.Errorf("%s: HeaderEnd and IsUpgrade allocate %v times", c.name, got)
		}
	}
}
