package bench

import (
	"testing"

	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// What a follower says of the numbers that came is what happened to them.
func TestFollowerJudges(t *testing.T) {
	for name, tt := range map[string]struct {
		numbers   []uint64
		published uint64
		want      LossCounts
	}{
		"all":              {[]uint64{1, 2, 3}, 3, LossCounts{}},
		"one lost":         {[]uint64{1, 3}, 3, LossCounts{Lost: 1}},
		"the last lost":    {[]uint64{1, 2}, 4, LossCounts{Lost: 2}},
		"all lost":         {nil, 2, LossCounts{Lost: 2}},
		"doubled":          {[]uint64{1, 2, 2, 3}, 3, LossCounts{Doubled: 1}},
		"an old one again": {[]uint64{1, 2, 3, 1}, 3, LossCounts{Doubled: 1}},
		"swapped":          {[]uint64{2, 1, 3}, 3, LossCounts{Reordered: 1}},
		"swapped, doubled": {[]uint64{2, 1, 1, 3}, 3, LossCounts{Reordered: 1, Doubled: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			l := &loss{config: LossConfig{MessageBytes: 100}}
			c := &followed{channel: &numberedChannel{name: "c"}, placed: true, missing: map[uint64]struct{}{}}
			c.channel.published.Store(tt.published)
			f := &follower{loss: l, channels: []*followed{c}}
			for _, n := range tt.numbers {
				f.take(c, &wire.Publication{Data: numbered(n, 100), Offset: n})
			}
			if f.settle(); f.counts != tt.want {
				t.Errorf("%+v, want %+v", f.counts, tt.want)
			}
		})
	}
}

// A publication must be what was published, to the byte, at its own offset.
func TestFollowerLooksAtContent(t *testing.T) {
	l := &loss{config: LossConfig{MessageBytes: 100}}
	c := &followed{channel: &numberedChannel{name: "c"}, placed: true, missing: map[uint64]struct{}{}}
	f := &follower{loss: l, channels: []*followed{c}}
	c.channel.published.Store(1)
	f.take(c, &wire.Publication{Data: numbered(1, 100), Offset: 2})
	for _, data := range []string{"", `{"n":1}`, `{"n":x,"pad":""}`, string(numbered(2, 99))} {
		f.take(c, &wire.Publication{Data: []byte(data), Offset: 2})
	}
	if f.settle(); f.counts != (LossCounts{Mismatches: 1, Changed: 4}) {
		t.Errorf("%+v", f.counts)
	}
}

// A subscription that the server could not recover is counted, and what it missed is not lost.
func TestFollowerTooLate(t *testing.T) {
	l := &loss{config: LossConfig{MessageBytes: 100}}
	c := &followed{channel: &numberedChannel{name: "c"}, missing: map[uint64]struct{}{}}
	f := &follower{loss: l, channels: []*followed{c}}
	f.place(c, &wire.SubscribeResult{Epoch: "e", Offset: 3})
	f.take(c, &wire.Publication{Data: numbered(4, 100), Offset: 4})
	f.place(c, &wire.SubscribeResult{Epoch: "e", Offset: 9, WasRecovering: true})
	f.place(c, &wire.SubscribeResult{
		Epoch: "e", Offset: 9, WasRecovering: true, Recovered: true,
		Publications: []*wire.Publication{{Data: numbered(10, 100), Offset: 10}},
	})
	c.channel.published.Store(10)
	if f.settle(); f.counts != (LossCounts{Delivered: 0, Recovered: 1, Recoveries: 1, Unrecovered: 1, Skipped: 5}) {
		t.Errorf("%+v", f.counts)
	}
}
