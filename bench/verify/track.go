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
	Everywhere bool   // messages to several channels are published in it, too
}

// Track follows one channel as one subscriber sees it, from subscription to subscription. A load has very many of them:
// 40 bytes, and no more while nothing is missing, a channel has one publisher, and its epoch is short.
type Track struct {
	last     [lines]uint64
	more     *more            // nil while there is nothing of that
	epoch    [shortEpoch]byte // if it is no longer
	epochLen uint8            // longEpoch: it is in more
	starts   [lines]start

	// On is for the caller, whose subscription is on or not: here is room for it.
	On bool
}

// The lines of a Track itself.
const (
	ofOffsets = iota
	ofFirst   // of publisher 0, most channels' only one
	lines
)

// more is what few tracks have.
type more struct {
	holes  [lines]*[]span
	others []line // of publisher 1 and those after it
	epoch  string
}

const (
	shortEpoch = 8
	longEpoch  = shortEpoch + 1
)

func (t *Track) moreOf() *more {
	if t.more == nil {
		t.more = new(more)
	}
	return t.more
}

// line returns one of the two lines, which keep puts back.
func (t *Track) line(n int) line {
	l := line{last: t.last[n], start: t.starts[n]}
	if t.more != nil {
		l.holes = t.more.holes[n]
	}
	return l
}

func (t *Track) keep(n int, l line) {
	t.last[n], t.starts[n] = l.last, l.start
	if l.holes != nil || t.more != nil {
		t.moreOf().holes[n] = l.holes
	}
}

// Place notes where a first subscription begins: after the publication that the server calls offset, with which
// publisher n had come to sequences[n]. Of a publisher without a sequence the first message says where it begins, and
// what was lost before that is seen by its offset alone.
func (t *Track) Place(epoch string, offset uint64, sequences ...uint64) {
	*t = Track{On: t.On}
	t.begin(epoch, offset)
	for n, sequence := range sequences {
		t.publisher(n, func(l *line) { *l = line{last: sequence, start: startKnown} })
	}
}

// begin notes from where offsets rise.
func (t *Track) begin(epoch string, offset uint64) {
	t.keep(ofOffsets, line{last: offset, start: startKnown})
	if t.epochLen = uint8(copy(t.epoch[:], epoch)); len(epoch) > shortEpoch {
		t.epochLen, t.moreOf().epoch = longEpoch, epoch
	}
}

// Placed reports whether Place was called: the next subscription recovers from Position.
func (t *Track) Placed() bool { return t.starts[ofOffsets] != startUnknown }

// Position is from where a subscription goes on.
func (t *Track) Position() (epoch string, offset uint64) {
	if t.epochLen == longEpoch {
		return t.more.epoch, t.last[ofOffsets]
	}
	return string(t.epoch[:t.epochLen]), t.last[ofOffsets]
}

// Recover notes the answer to a subscription that asked for what came after Position: recovered says that all of it
// follows, or that it is not known, and the channel stands at offset.
func (t *Track) Recover(c *Counts, recovered bool, epoch string, offset uint64) {
	if recovered {
		c.Recoveries++
		if asked, _ := t.Position(); epoch != asked {
			c.Epochs++
		}
		return
	}
	c.Unrecovered++
	// What was missed before is the server's fault still; what is missed now it has said.
	t.Settle(c, 0)
	t.begin(epoch, offset)
	t.each(func(l *line) { l.start = min(l.start, startExcused) })
}

// publisher has something done with the line of publisher n.
func (t *Track) publisher(n int, do func(l *line)) {
	if n == 0 {
		l := t.line(ofFirst)
		do(&l)
		t.keep(ofFirst, l)
		return
	}
	m := t.moreOf()
	for len(m.others) < n {
		m.others = append(m.others, line{})
	}
	do(&m.others[n-1])
}

// each has it done with those of all.
func (t *Track) each(do func(l *line)) {
	t.publisher(0, do)
	for i := 0; t.more != nil && i < len(t.more.others); i++ {
		do(&t.more.others[i])
	}
}

// Take looks at one publication in the channel: its stamp, and its offset, or 0 if the channel has none. It reports
// whether the publication belongs there and is new.
func (t *Track) Take(c *Counts, in Channel, s Stamp, offset uint64) (isNew bool) {
	if s.Channel != in.Sum && (s.Channel != Everywhere || !in.Everywhere) || int(s.Publisher) >= in.Publishers {
		c.Misplaced++
		return false
	}
	if offset > t.last[ofOffsets] && in.Gaps {
		t.last[ofOffsets] = offset
	} else if offset > 0 {
		l := t.line(ofOffsets)
		l.take(&c.Offsets, &c.Skipped, offset)
		t.keep(ofOffsets, l)
	}
	if s.Publisher > 0 {
		t.publisher(int(s.Publisher), func(l *line) { isNew = l.take(&c.Order, &c.Skipped, s.Sequence) })
		return isNew
	}
	l := t.line(ofFirst) // as publisher does, but on the stack
	isNew = l.take(&c.Order, &c.Skipped, s.Sequence)
	t.keep(ofFirst, l)
	return isNew
}

// Settle counts what never came when all is over: publishers have come to sequences, and the channel to offset, or 0
// if that is not known.
func (t *Track) Settle(c *Counts, offset uint64, sequences ...uint64) {
	if !t.Placed() {
		return
	}
	l := t.line(ofOffsets)
	l.settle(&c.Offsets, &c.Skipped, offset)
	t.keep(ofOffsets, l)
	t.each(func(l *line) { l.settle(&c.Order, &c.Skipped, 0) })
	for n, top := range sequences {
		t.publisher(n, func(l *line) { l.settle(&c.Order, &c.Skipped, top) })
	}
}

// Forgive forgets what is missing by offset: the server's offsets turned out to have gaps.
func (t *Track) Forgive() {
	if t.more != nil {
		t.more.holes[ofOffsets] = nil
	}
}
