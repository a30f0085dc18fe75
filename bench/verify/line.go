package verify

import "slices"

// line follows numbers that should rise by one.
type line struct {
	last  uint64
	holes *[]span // numbers below last that have not come; nil while there are none
	start start
}

// start is what is known of the number that comes next.
type start uint8

const (
	startUnknown start = iota // nothing: it says where the line begins
	startExcused              // it may be any later one: the server has said that some are missed
	startKnown                // it is last+1
)

// span is from…to, both among them.
type span struct{ from, to uint64 }

// maxHoles bounds what a server that counts at random can make a line remember: what it misses beyond is lost at once.
const maxHoles = 1024

// Order is what was found of numbers.
type Order struct {
	Lost      int64 `json:"lost"`      // that never came
	Doubled   int64 `json:"doubled"`   // that came twice
	Reordered int64 `json:"reordered"` // that came after a later one
}

func (o *Order) add(other Order) {
	o.Lost += other.Lost
	o.Doubled += other.Doubled
	o.Reordered += other.Reordered
}

func (o Order) faults() int64 { return o.Lost + o.Doubled + o.Reordered }

// take notes number n, and reports whether it came for the first time. It adds to skipped what was excused.
func (l *line) take(o *Order, skipped *int64, n uint64) bool {
	switch {
	case l.start == startUnknown:
		l.start = startKnown
	case l.start == startExcused && n > l.last:
		*skipped += int64(n - l.last - 1)
		l.start = startKnown
	case n == l.last+1:
	case n > l.last:
		l.miss(o, span{l.last + 1, n - 1})
	case l.fill(o, n):
		o.Reordered++
		return true
	default:
		o.Doubled++
		return false
	}
	l.last = n
	return true
}

func (l *line) miss(o *Order, s span) {
	if l.holes == nil {
		l.holes = &[]span{}
	}
	if len(*l.holes) >= maxHoles {
		o.Lost += s.size()
		return
	}
	*l.holes = append(*l.holes, s)
}

// fill takes n out of the holes. Of one that falls in two, and there is room for one, the lesser part is lost.
func (l *line) fill(o *Order, n uint64) bool {
	if l.holes == nil {
		return false
	}
	for i, s := range *l.holes {
		if n < s.from || n > s.to {
			continue
		}
		var left []span
		if s.from < n {
			left = append(left, span{s.from, n - 1})
		}
		if n < s.to {
			left = append(left, span{n + 1, s.to})
		}
		if len(left) == 2 && len(*l.holes) >= maxHoles {
			lesser := 0
			if left[1].size() < left[0].size() {
				lesser = 1
			}
			o.Lost += left[lesser].size()
			left = slices.Delete(left, lesser, lesser+1)
		}
		if *l.holes = slices.Replace(*l.holes, i, i+1, left...); len(*l.holes) == 0 {
			l.holes = nil
		}
		return true
	}
	return false
}

// settle counts what never came, of numbers up to top. The line can go on after it.
func (l *line) settle(o *Order, skipped *int64, top uint64) {
	if l.holes != nil {
		for _, s := range *l.holes {
			o.Lost += s.size()
		}
		l.holes = nil
	}
	if top <= l.last || l.start == startUnknown {
		return
	}
	if tail := (span{l.last + 1, top}).size(); l.start == startExcused {
		*skipped += tail
	} else {
		o.Lost += tail
	}
	l.last = top
}

// size is at most what a sum of many still holds.
func (s span) size() int64 { return int64(min(s.to-s.from+1, 1<<40)) }
