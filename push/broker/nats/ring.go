package nats

import (
	"cmp"
	"slices"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/hub/names"
)

// ring is what a node keeps of a channel's past. Guarded by its group's mu.
//
// There may be as many of these as of users: keep it at 64 bytes.
type ring struct {
	name  string
	log   []*hub.Publication
	floor uint64 // nothing after it is missing
	last  uint32 // the second in which something came last
	short bool   // what is missing may be in the log
}

// Name implements names.Named.
func (r *ring) Name() string { return r.name }

// version is that of the latest publication that had one.
type version struct {
	number uint64
	epoch  string
}

// kept is one publication of a ring, in the order of the log.
type kept struct {
	ring   *ring
	offset uint64
}

// rings are those of a group, bounded in bytes and in number. Guarded by the group's mu.
type rings struct {
	table    names.Table[*ring]
	order    []kept // what was kept, oldest first from head on, and perhaps gone since
	head     int
	versions map[string]version
	floor    uint64 // of channels without a ring
	solid    uint64 // what is missing up to here is not in the log either
	bytes    int
	count    int // of publications
	evicted  int64
}

// find returns a channel's ring, or nil.
func (s *rings) find(channel string) *ring { return s.table.Find(names.Hash(channel), channel) }

// get returns a channel's ring, making it if need be.
func (s *rings) get(channel string) *ring {
	h := names.Hash(channel)
	r := s.table.Find(h, channel)
	if r == nil {
		r = &ring{name: channel, floor: s.floor, short: s.floor > s.solid}
		s.table.Add(h, r)
	}
	return r
}

// newer reports, and notes, that a version of a channel is higher than what was there.
func (s *rings) newer(channel string, number uint64, epoch string) bool {
	if !s.wouldBeNewer(channel, number, epoch) {
		return false
	}
	if s.versions == nil {
		s.versions = map[string]version{}
	}
	s.versions[channel] = version{number, epoch}
	return true
}

func (s *rings) wouldBeNewer(channel string, number uint64, epoch string) bool {
	last, ok := s.versions[channel]
	return !ok || last.epoch != epoch || number > last.number
}

// keep appends p to a channel's ring, and lets go of what is more than is to be kept.
func (s *rings) keep(r *ring, p *hub.Publication, size int) {
	r.log = append(r.log, p)
	s.order = append(s.order, kept{r, p.Offset})
	s.account(1, bytesOf(p))
	if n := len(r.log) - size; n > 0 {
		s.drop(r, n)
		r.short = false // what is before is too much
	}
}

// drop lets the n oldest publications of a ring go.
func (s *rings) drop(r *ring, n int) {
	for _, p := range r.log[:n] {
		s.account(-1, -bytesOf(p))
	}
	r.floor = max(r.floor, r.log[n-1].Offset)
	if r.log = slices.Delete(r.log, 0, n); len(r.log) == 0 {
		r.log = nil
	}
}

// clear lets all publications of a ring go that are up to an offset.
func (s *rings) clear(r *ring, offset uint64) {
	if n := len(r.log); n > 0 {
		s.drop(r, n)
	}
	r.floor, r.short = max(r.floor, offset), false
}

func (s *rings) account(publications, bytes int) {
	s.count += publications
	s.bytes += bytes
}

// bound lets the oldest publications go until there are at most so many bytes.
func (s *rings) bound(bytes int) {
	for s.bytes > bytes && s.head < len(s.order) {
		k := s.order[s.head]
		s.order[s.head] = kept{}
		s.head++
		if len(k.ring.log) > 0 && k.ring.log[0].Offset == k.offset {
			s.drop(k.ring, 1)
			k.ring.short = true
			s.evicted++
		}
	}
	s.tidy()
}

// tidy forgets the order of what is gone.
func (s *rings) tidy() {
	if len(s.order)-s.head > 2*s.count+1024 {
		left := slices.DeleteFunc(s.order[s.head:], func(k kept) bool {
			return len(k.ring.log) == 0 || k.ring.log[0].Offset > k.offset
		})
		s.order, s.head = slices.Clone(left), 0
	} else if s.head > 1024 && s.head > len(s.order)/2 {
		s.order, s.head = slices.Clone(s.order[s.head:]), 0
	}
}

// expire lets go of what is too old, and of rings in which nothing came since the second old, or that are too many.
func (s *rings) expire(now, old uint32, most int) {
	var empty []*ring
	for r := range s.table.All() {
		s.expireRing(r, now)
		if len(r.log) == 0 {
			empty = append(empty, r)
		}
	}
	if s.table.Len() > most { // of those that are too many, the ones that say least of the others
		slices.SortFunc(empty, func(a, b *ring) int { return cmp.Compare(a.floor, b.floor) })
	}
	for _, r := range empty {
		if r.last < old || s.table.Len() > most {
			s.table.Remove(names.Hash(r.name), r.name)
			delete(s.versions, r.name)
			s.floor = max(s.floor, r.floor) // from now on that of its channel, too
		}
	}
	s.tidy()
}

func (s *rings) expireRing(r *ring, now uint32) {
	n := 0
	for n < len(r.log) && r.log[n].Expires <= now {
		n++
	}
	if n > 0 {
		s.drop(r, n)
		r.short = false // what is before is older
	}
}

// query returns what q wants, and whether the log may have more of it.
func (s *rings) query(channel string, q hub.HistoryQuery, now uint32) (list []*hub.Publication, floor uint64, more bool) {
	r := s.find(channel)
	if r == nil {
		return nil, s.floor, s.floor > s.solid && s.wants(q, s.floor, 0)
	}
	s.expireRing(r, now)
	from, to := 0, len(r.log)
	if q.Since != nil {
		at, found := slices.BinarySearchFunc(r.log, q.Since.Offset, func(p *hub.Publication, offset uint64) int {
			switch {
			case p.Offset < offset:
				return -1
			case p.Offset > offset:
				return 1
			}
			return 0
		})
		if q.Reverse {
			to = at
		} else if from = at; found {
			from++
		}
	}
	part := r.log[from:to]
	wall := time.Now()
	for i := range part {
		if q.Limit >= 0 && len(list) >= q.Limit {
			break
		}
		p := part[i]
		if q.Reverse {
			p = part[len(part)-1-i]
		}
		if !p.Over(wall) {
			list = append(list, p)
		}
	}
	return list, r.floor, r.short && s.wants(q, r.floor, len(list))
}

// wants reports whether q is about what was before a floor, when there are so many publications after it.
func (s *rings) wants(q hub.HistoryQuery, floor uint64, n int) bool {
	switch {
	case q.Limit == 0:
		return false
	case q.Reverse:
		return q.Limit < 0 || n < q.Limit
	case q.Since != nil:
		// Who is to have all since then cannot be helped by what is left.
		return (q.Since.Offset >= s.solid || !q.Following) && q.Since.Offset < floor
	}
	return true
}

// bytesOf is about what a publication takes in a ring.
func bytesOf(p *hub.Publication) int {
	const fixed, bounds = 192, 176 // the Publication, its entries, and what the allocator adds; what Publication.Bound adds
	n := fixed + cap(p.Data)
	if p.Bounded() {
		n += bounds
	}
	if i := p.Info; i != nil {
		n += 96 + len(i.User) + len(i.Client) + len(i.ConnInfo) + len(i.ChanInfo)
	}
	for k, v := range p.Tags {
		n += len(k) + len(v) + 48
	}
	return n
}
