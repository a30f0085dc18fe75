package bench

import (
	"testing"

	"github.com/millpond/millpond/bench/verify"
)

// Offsets that rise, but not by one, are seen of a channel with several publishers when nothing is under way, however
// their answers overtook each other; an own server has none.
func TestPressSeesGaps(t *testing.T) {
	for name, tt := range map[string]struct {
		offsets []uint64 // as they were answered
		strict  bool
		want    bool
	}{
		"one by one":    {[]uint64{1, 2, 3}, false, false},
		"from anywhere": {[]uint64{71, 72, 73}, false, false},
		"overtaken":     {[]uint64{72, 71, 73}, false, false},
		"gaps":          {[]uint64{1, 3, 4}, false, true},
		"of our own":    {[]uint64{1, 3, 4}, true, false}, // they are faults, which subscribers find
		"none":          {[]uint64{0, 0, 0}, false, false},
	} {
		p := newPress(nil, "bench:x-", 2, 1, 64)
		h := p.herald("bench:x-", 2)
		p.strict = tt.strict
		for i, offset := range tt.offsets {
			s := verify.Stamp{Sequence: uint64(i) + 1}
			if i == 1 {
				s = h.stamp
			}
			if err := p.accepted(1, s, offset); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if p.gapped() != tt.want {
			t.Errorf("%s: gaps are not %t", name, tt.want)
		}
	}
}
