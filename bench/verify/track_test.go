package verify

import (
	"strings"
	"testing"
	"unsafe"
)

// event is what a server does to a subscriber.
type event func(t *Track, c *Counts, in Channel)

// pub is publication n of publisher 0, at its own offset.
func pub(n uint64) event { return pubAt(n, n) }

func pubAt(n, offset uint64) event { return pubOf(0, n, offset) }

func pubOf(publisher uint16, n, offset uint64) event {
	return func(t *Track, c *Counts, in Channel) {
		t.Take(c, in, Stamp{Publisher: publisher, Channel: in.Sum, Sequence: n}, offset)
	}
}

func pubs(n ...uint64) event {
	return func(t *Track, c *Counts, in Channel) {
		for _, n := range n {
			pub(n)(t, c, in)
		}
	}
}

func misplaced(t *Track, c *Counts, in Channel) {
	t.Take(c, in, Stamp{Channel: Sum("another"), Sequence: 1}, 1)
}

func everywhere(t *Track, c *Counts, in Channel) {
	t.Take(c, in, Stamp{Channel: Everywhere, Sequence: 1}, 1)
}

func place(offset uint64, sequences ...uint64) event {
	return func(t *Track, _ *Counts, _ Channel) { t.Place("e", offset, sequences...) }
}

func resume(recovered bool, epoch string, offset uint64) event {
	return func(t *Track, c *Counts, _ Channel) { t.Recover(c, recovered, epoch, offset) }
}

func settle(offset uint64, sequences ...uint64) event {
	return func(t *Track, c *Counts, _ Channel) { t.Settle(c, offset, sequences...) }
}

// What is said of the publications that came is what happened to them.
func TestTrackJudges(t *testing.T) {
	both := func(o Order) Counts { return Counts{Order: o, Offsets: o} }
	for name, tt := range map[string]struct {
		events []event
		want   Counts
	}{
		"all":                        {[]event{place(0, 0), pubs(1, 2, 3), settle(3, 3)}, Counts{}},
		"one lost":                   {[]event{place(0, 0), pubs(1, 3), settle(3, 3)}, both(Order{Lost: 1})},
		"the first lost":             {[]event{place(0, 0), pubs(2, 3), settle(3, 3)}, both(Order{Lost: 1})},
		"the last lost":              {[]event{place(0, 0), pubs(1, 2), settle(4, 4)}, both(Order{Lost: 2})},
		"all lost":                   {[]event{place(0, 0), settle(2, 2)}, both(Order{Lost: 2})},
		"doubled":                    {[]event{place(0, 0), pubs(1, 2, 2, 3), settle(3, 3)}, both(Order{Doubled: 1})},
		"an old one again":           {[]event{place(0, 0), pubs(1, 2, 3, 1), settle(3, 3)}, both(Order{Doubled: 1})},
		"swapped":                    {[]event{place(0, 0), pubs(2, 1, 3), settle(3, 3)}, both(Order{Reordered: 1})},
		"swapped, doubled":           {[]event{place(0, 0), pubs(2, 1, 1, 3), settle(3, 3)}, both(Order{Reordered: 1, Doubled: 1})},
		"late, within a longer gap":  {[]event{place(0, 0), pubs(1, 6, 3), settle(6, 6)}, both(Order{Reordered: 1, Lost: 3})},
		"all of a gap, backwards":    {[]event{place(0, 0), pubs(1, 5, 4, 3, 2, 6), settle(6, 6)}, both(Order{Reordered: 3})},
		"from the middle":            {[]event{place(7, 7), pubs(8, 9), settle(9, 9)}, Counts{}},
		"lost in the middle":         {[]event{place(7, 7), pubs(9), settle(9, 9)}, both(Order{Lost: 1})},
		"before its place":           {[]event{place(7, 7), pubs(7, 8), settle(8, 8)}, both(Order{Doubled: 1})},
		"numbers not known":          {[]event{place(7), pubAt(1008, 8), pubAt(1009, 9), settle(9, 1009)}, Counts{}},
		"numbers not known, lost":    {[]event{place(7), pubAt(1009, 9), pubAt(1011, 11), settle(11, 1011)}, Counts{Order: Order{Lost: 1}, Offsets: Order{Lost: 2}}},
		"never subscribed":           {[]event{settle(9, 9)}, Counts{}},
		"no offsets":                 {[]event{place(0, 0), pubAt(1, 0), pubAt(3, 0), settle(0, 3)}, Counts{Order: Order{Lost: 1}}},
		"a wrong offset":             {[]event{place(0, 0), pub(1), pubAt(2, 3), pubAt(3, 4), settle(4, 3)}, Counts{Offsets: Order{Lost: 1}}},
		"an offset twice":            {[]event{place(0, 0), pub(1), pubAt(2, 1), settle(1, 2)}, Counts{Offsets: Order{Doubled: 1}}},
		"another channel's":          {[]event{place(0, 0), pub(1), misplaced, pub(2), settle(2, 2)}, Counts{Misplaced: 1}},
		"to several channels":        {[]event{place(0, 0), everywhere, pub(2), settle(2, 2)}, Counts{}},
		"to others":                  {[]event{place(0, 0), everywhere, pub(1), settle(1, 1)}, Counts{Misplaced: 1}},
		"a publisher that is none":   {[]event{place(0, 0), pubOf(2, 1, 1)}, Counts{Misplaced: 1}},
		"two publishers":             {[]event{place(0, 0, 0), pubOf(0, 1, 1), pubOf(1, 1, 2), pubOf(1, 2, 3), pubOf(0, 2, 4), settle(4, 2, 2)}, Counts{}},
		"two, one of which loses":    {[]event{place(0, 0, 0), pubOf(0, 1, 1), pubOf(1, 2, 3), pubOf(0, 2, 4), settle(4, 2, 2)}, both(Order{Lost: 1})},
		"recovers":                   {[]event{place(0, 0), pubs(1, 2), resume(true, "e", 2), pubs(3, 4), settle(4, 4)}, Counts{Recoveries: 1}},
		"recovers with a gap":        {[]event{place(0, 0), pubs(1, 2), resume(true, "e", 2), pubs(4), settle(4, 4)}, Counts{Recoveries: 1, Order: Order{Lost: 1}, Offsets: Order{Lost: 1}}},
		"recovers nothing":           {[]event{place(0, 0), pubs(1), resume(true, "e", 1), settle(4, 4)}, Counts{Recoveries: 1, Order: Order{Lost: 3}, Offsets: Order{Lost: 3}}},
		"recovers one twice":         {[]event{place(0, 0), pubs(1, 2), resume(true, "e", 2), pubs(2, 3), settle(3, 3)}, Counts{Recoveries: 1, Order: Order{Doubled: 1}, Offsets: Order{Doubled: 1}}},
		"recovers in another epoch":  {[]event{place(0, 0), pubs(1), resume(true, "f", 1), pubs(2), settle(2, 2)}, Counts{Recoveries: 1, Epochs: 1}},
		"too late":                   {[]event{place(3, 3), pub(4), resume(false, "e", 9), resume(true, "e", 9), pub(10), settle(10, 10)}, Counts{Recoveries: 1, Unrecovered: 1, Skipped: 5}},
		"too late, in another epoch": {[]event{place(3, 3), pub(4), resume(false, "f", 1), pubAt(6, 2), settle(2, 6)}, Counts{Unrecovered: 1, Skipped: 1}},
		"too late, and nothing more": {[]event{place(3, 3), pub(4), resume(false, "e", 9), settle(9, 9)}, Counts{Unrecovered: 1, Skipped: 5}},
		"too late, and then lost":    {[]event{place(3, 3), pub(4), resume(false, "e", 9), pub(11), settle(11, 11)}, Counts{Unrecovered: 1, Skipped: 6, Offsets: Order{Lost: 1}}},
		"lost before it was too late": {[]event{place(0, 0), pubs(1, 3), resume(false, "e", 9), pub(10), settle(10, 10)}, Counts{
			Unrecovered: 1, Skipped: 6, Order: Order{Lost: 1}, Offsets: Order{Lost: 1},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			in := Channel{Sum: Sum("news"), Publishers: 1, Everywhere: name == "to several channels"}
			if strings.HasPrefix(name, "two") {
				in.Publishers = 2
			}
			var track Track
			var got Counts
			for _, e := range tt.events {
				e(&track, &got, in)
			}
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			faulty := tt.want.Order.faults()+tt.want.Offsets.faults()+tt.want.Misplaced+tt.want.Epochs > 0
			if (got.Err() != nil) != faulty {
				t.Errorf("error %v", got.Err())
			}
		})
	}
}

// Offsets that rise by more than one lose nothing; they must rise all the same.
func TestTrackWithGaps(t *testing.T) {
	in := Channel{Sum: Sum("news"), Publishers: 1, Gaps: true}
	var track Track
	var got Counts
	track.Place("e", 100, 0)
	for n, offset := range []uint64{103, 110, 110, 104} {
		pubAt(uint64(n)+1, offset)(&track, &got, in)
	}
	if want := (Counts{Offsets: Order{Doubled: 2}}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Offsets at random cost bounded memory and time, and are losses all the same.
func TestTrackBounded(t *testing.T) {
	in := Channel{Sum: Sum("news"), Publishers: 1}
	var track Track
	var got Counts
	track.Place("e", 0, 0)
	for n := range uint64(10 * maxHoles) {
		pubAt(n+1, (n+1)<<45)(&track, &got, in)
	}
	if n := len(*track.more.holes[ofOffsets]); n > maxHoles {
		t.Errorf("%d holes are remembered", n)
	}
	if track.Settle(&got, 0); got.Offsets.Lost < 10*maxHoles || got.faults() != 0 {
		t.Errorf("%+v", got)
	}

	const top = 1 << 30 // one hole, of which each that comes late makes two
	track, got = Track{}, Counts{}
	track.Place("e", 0, 0)
	pubAt(1, top)(&track, &got, in)
	for n := range uint64(10 * maxHoles) {
		pubAt(n+2, 2*n+2)(&track, &got, in)
	}
	if n := len(*track.more.holes[ofOffsets]); n > maxHoles {
		t.Errorf("%d holes are remembered", n)
	}
	want := Order{Lost: top - 1 - 10*maxHoles, Reordered: 10 * maxHoles}
	if track.Settle(&got, 0); got.Offsets != want {
		t.Errorf("%+v, want %+v", got.Offsets, want)
	}
}

// Every count reaches the sum, and every fault the message.
func TestCounts(t *testing.T) {
	one := Counts{1, 2, 3, 4, 5, Order{6, 7, 8}, Order{9, 10, 11}, 12, 13, 14, 15}
	sum := one
	sum.Add(&one)
	if want := (Counts{2, 4, 6, 8, 10, Order{12, 14, 16}, Order{18, 20, 22}, 24, 26, 28, 30}); sum != want {
		t.Errorf("%+v, want %+v", sum, want)
	}
	want := "publications: 6 lost, 7 doubled, 8 out of order, 9 lost by offset, 10 doubled by offset, 11 out of order by offset, " +
		"12 changed, 13 of another channel, 14 in channels not subscribed to, 15 recoveries in another epoch"
	if err := one.Err(); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := (&Counts{Delivered: 1, Recovered: 1, Recoveries: 1, Unrecovered: 1, Skipped: 1}).Err(); err != nil {
		t.Error(err)
	}
}

// A track is small, and takes nothing else while nothing is missing; epochs of any length are kept to the letter.
func TestTrackIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Track{}); n > 40 {
		t.Errorf("%d bytes, at most 40", n)
	}
	in := Channel{Sum: Sum("news"), Publishers: 1}
	var track Track
	var got Counts
	track.Place("abcdefgh", 0, 0)
	n := uint64(0)
	if allocs := testing.AllocsPerRun(100, func() {
		n++
		track.Take(&got, in, Stamp{Channel: in.Sum, Sequence: n}, n)
	}); allocs > 0 || track.more != nil {
		t.Errorf("%v allocations, more %+v", allocs, track.more)
	}
	for _, epoch := range []string{"", "a", "abcdefgh", "abcdefghi", strings.Repeat("e", 100)} {
		track.Place(epoch, 7)
		if got, offset := track.Position(); got != epoch || offset != 7 {
			t.Errorf("%q, %d, want %q, 7", got, offset, epoch)
		}
		var counts Counts
		if track.Recover(&counts, true, epoch, 7); counts.Epochs != 0 {
			t.Errorf("%q is not the same", epoch)
		}
		if track.Recover(&counts, true, epoch+"x", 7); counts.Epochs != 1 {
			t.Errorf("%q is the same as %qx", epoch, epoch)
		}
	}
	track.Recover(&got, false, "short", 9) // after a long one
	if epoch, _ := track.Position(); epoch != "short" {
		t.Errorf("%q", epoch)
	}
}
