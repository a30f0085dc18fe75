package verify

import (
	"fmt"
	"strings"
)

// Counts are what subscribers have found.
type Counts struct {
	Delivered   int64 `json:"delivered"`   // publications that were pushed
	Recovered   int64 `json:"recovered"`   // publications that came because they were missed
	Recoveries  int64 `json:"recoveries"`  // subscriptions that went on where they were
	Unrecovered int64 `json:"unrecovered"` // subscriptions of which the server said that it could not
	Skipped     int64 `json:"skipped"`     // publications that were missed by those, which therefore are not lost

	Order           // by the publishers' numbers
	Offsets   Order `json:"offsets"`   // by the server's
	Changed   int64 `json:"changed"`   // publications whose data is not what was published
	Misplaced int64 `json:"misplaced"` // publications of another channel than the server says
	Foreign   int64 `json:"foreign"`   // publications in channels that are not subscribed to
	Epochs    int64 `json:"epochs"`    // recoveries in another epoch than was asked for
}

// Add adds what others found.
func (c *Counts) Add(o *Counts) {
	c.Delivered += o.Delivered
	c.Recovered += o.Recovered
	c.Recoveries += o.Recoveries
	c.Unrecovered += o.Unrecovered
	c.Skipped += o.Skipped
	c.Order.add(o.Order)
	c.Offsets.add(o.Offsets)
	c.Changed += o.Changed
	c.Misplaced += o.Misplaced
	c.Foreign += o.Foreign
	c.Epochs += o.Epochs
}

// Checked is how many publications were looked at.
func (c *Counts) Checked() int64 { return c.Delivered + c.Recovered }

// Err says what the server must not have done, or nil.
func (c *Counts) Err() error {
	var found []string
	for _, f := range []struct {
		n    int64
		what string
	}{
		{c.Lost, "lost"},
		{c.Doubled, "doubled"},
		{c.Reordered, "out of order"},
		{c.Offsets.Lost, "lost by offset"},
		{c.Offsets.Doubled, "doubled by offset"},
		{c.Offsets.Reordered, "out of order by offset"},
		{c.Changed, "changed"},
		{c.Misplaced, "of another channel"},
		{c.Foreign, "in channels not subscribed to"},
		{c.Epochs, "recoveries in another epoch"},
	} {
		if f.n > 0 {
			found = append(found, fmt.Sprintf("%d %s", f.n, f.what))
		}
	}
	if found == nil {
		return nil
	}
	return fmt.Errorf("publications: %s", strings.Join(found, ", "))
}

// Channel is what is known of one by who takes its publications.
type Channel struct {
	Sum        uint32 // of its name
	Publishers int    // they have the numbers 0 to Publishers-1, and each numbers its messages
	Gaps       bool   // offsets rise, but not by one
}

// Track follows one channel as one subscriber sees it, from subscription to subscription.
type Track struct {
	offsets line
	first   line    // publisher 0, most channels' only one
	others  *[]line // publisher 1 and those after it; nil while they are none
	epoch   string
}

// Place notes where a first subscription begins: after the publication that the server calls offset, with which
// publisher n had come to sequences[n]. Of a publisher without a sequence the first message says where it begins, and
// what was lost before that is seen by its offset alone.
func (t *Track) Place(epoch string, offset uint64, sequences ...uint64) {
	*t = Track{epoch: epoch, offsets: line{last: offset, start: startKnown}}
	for n, sequence := range sequences {
		*t.publisher(n) = line{last: sequence, start: startKnown}
	}
}

// Placed reports whether Place was called: the next subscription recovers from Position.
func (t *Track) Placed() bool { return t.offsets.start != startUnknown }

// Position is from where a subscription goes on.
func (t *Track) Position() (epoch string, offset uint64) { return t.epoch, t.offsets.last }

// Recover notes the answer to a subscription that asked for what came after Position: recovered says that all of it
// follows, or that it is not known, and the channel stands at offset.
func (t *Track) Recover(c *Counts, recovered bool, epoch string, offset uint64) {
	if recovered {
		c.Recoveries++
		if epoch != t.epoch {
			c.Epochs++
		}
		return
	}
	c.Unrecovered++
	// What was missed before is the server's fault still; what is missed now it has said.
	t.Settle(c, 0)
	t.epoch, t.offsets = epoch, line{last: offset, start: startKnown}
	t.each(func(l *line) { l.start = min(l.start, startExcused) })
}

// publisher is the line of publisher n.
func (t *Track) publisher(n int) *line {
	if n == 0 {
		return &t.first
	}
	if t.others == nil {
		t.others = &[]line{}
	}
	for len(*t.others) < n {
		*t.others = append(*t.others, line{})
	}
	return &(*t.others)[n-1]
}

func (t *Track) each(do func(l *line)) {
	do(&t.first)
	if t.others != nil {
		for i := range *t.others {
			do(&(*t.others)[i])
		}
	}
}

// Take looks at one publication in the channel: its stamp, and its offset, or 0 if the channel has none. It reports
// whether the publication belongs there and is new.
func (t *Track) Take(c *Counts, in Channel, s Stamp, offset uint64) bool {
	if s.Channel != in.Sum && s.Channel != Everywhere || int(s.Publisher) >= in.Publishers {
		c.Misplaced++
		return false
	}
	if offset > t.offsets.last && in.Gaps {
		t.offsets.last = offset
	} else if offset > 0 {
		t.offsets.take(&c.Offsets, &c.Skipped, offset)
	}
	return t.publisher(int(s.Publisher)).take(&c.Order, &c.Skipped, s.Sequence)
}

// Settle counts what never came when all is over: publishers have come to sequences, and the channel to offset, or 0
// if that is not known.
func (t *Track) Settle(c *Counts, offset uint64, sequences ...uint64) {
	if !t.Placed() {
		return
	}
	t.offsets.settle(&c.Offsets, &c.Skipped, offset)
	t.each(func(l *line) { l.settle(&c.Order, &c.Skipped, 0) })
	for n, top := range sequences {
		t.publisher(n).settle(&c.Order, &c.Skipped, top)
	}
}

// Forgive forgets what is missing by offset: the server's offsets turned out to have gaps.
func (t *Track) Forgive() { t.offsets.holes = nil }
