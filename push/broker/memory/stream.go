package memory

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/hub/names"
)

// stream is what is known of a channel. Its fields are guarded by its stripe's mu.
//
// There may be as many of these as of users: keep it at 64 bytes.
type stream struct {
	name   string
	log    []*hub.Publication
	offset uint64 // of the latest publication

	life   uint32 // twice the number of its epoch, and one more if the position is worth keeping without subscribers
	forget uint32 // the second at which the position may be forgotten
	due    uint32 // the second at which something expires
	index  int32  // in the schedule, -1 if it is not in it
}

// Name implements names.Named.
func (st *stream) Name() string { return st.name }

// version is that of the latest publication that had one.
type version struct {
	number uint64
	epoch  string
}

// kept reports whether the position is worth keeping without subscribers.
func (st *stream) kept() bool { return st.life&1 != 0 }

// position returns the stream's. The text of the epoch is kept for the stream that is asked again.
func (s *stripe) position(st *stream) hub.Position {
	if life := st.life / 2; s.epoch == "" || s.epochOf != life {
		s.epoch, s.epochOf = epoch(s.secret, life), life
	}
	return hub.Position{Offset: st.offset, Epoch: s.epoch}
}

// newer reports, and notes, that a version of a stream is higher than what was there.
func (s *stripe) newer(st *stream, number uint64, epoch string) bool {
	if last, ok := s.versions[st.name]; ok && last.epoch == epoch && number <= last.number {
		return false
	}
	if s.versions == nil {
		s.versions = map[string]version{}
	}
	s.versions[st.name] = version{number, epoch}
	return true
}

// dated reports whether there is a version for a stream.
func (s *stripe) dated(st *stream) bool {
	_, found := s.versions[st.name]
	return found
}

// touch keeps the position until the second end, at least.
func (st *stream) touch(end uint32) { st.forget = max(st.forget, end) }

// keep appends p, and lets go of what is more than is to be kept.
func (st *stream) keep(s *stripe, p *hub.Publication, r hub.Retention, now uint32) {
	st.life |= 1
	for len(st.log) >= r.Size {
		st.drop(s, len(st.log)-r.Size+1)
	}
	p.Expires = now + seconds(r.TTL)
	s.timed = s.timed || p.Bounded()
	st.log = append(st.log, p)
	s.account(1, size(p))
}

// size is about what a publication takes.
func size(p *hub.Publication) int {
	const fixed, bounds = 136, 176 // the Publication, its entry, and what the allocator adds; what Publication.Bound adds
	n := fixed + len(p.Data)
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

// drop lets the n oldest publications go. What they leave in front is used again.
func (st *stream) drop(s *stripe, n int) {
	for _, p := range st.log[:n] {
		s.account(-1, -size(p))
	}
	st.log = slices.Delete(st.log, 0, n)
	if len(st.log) == 0 {
		st.log = nil
	}
}

func (s *stripe) account(publications, bytes int) {
	s.bytes += bytes
	s.total.Add(int64(bytes))
	s.due.publications += publications
}

// expire lets go of what is too old. Later publications may have a shorter life than earlier ones; they go with them.
func (st *stream) expire(s *stripe, now uint32) {
	n := 0
	for n < len(st.log) && st.log[n].Expires <= now {
		n++
	}
	if n > 0 {
		st.drop(s, n)
	}
}

// clear lets all publications go.
func (st *stream) clear(s *stripe) { st.drop(s, len(st.log)) }

// query returns what q wants. Offsets in log rise by 1. What is over by a TTL of its own stays in the log until it would go anyway, and is not
// shown; timed says that there may be such.
func (st *stream) query(q hub.HistoryQuery, timed bool) []*hub.Publication {
	if q.Limit == 0 || len(st.log) == 0 {
		return nil
	}
	first := st.log[0].Offset
	from, to := 0, len(st.log)
	if q.Since != nil && q.Reverse {
		to = place(q.Since.Offset, first, len(st.log))
	} else if q.Since != nil {
		from = place(q.Since.Offset, first-1, len(st.log)) // not offset+1, for that may be 0
	}
	if timed {
		return living(st.log[from:to], q)
	}
	if q.Limit > 0 && to-from > q.Limit {
		if q.Reverse {
			from = to - q.Limit
		} else {
			to = from + q.Limit
		}
	}
	out := make([]*hub.Publication, 0, to-from)
	out = append(out, st.log[from:to]...)
	if q.Reverse {
		slices.Reverse(out)
	}
	return out
}

// living returns those of a part of the log that are not over, as many as q wants and in its order.
func living(log []*hub.Publication, q hub.HistoryQuery) (out []*hub.Publication) {
	now := time.Now()
	for i := range log {
		p := log[i]
		if q.Reverse {
			p = log[len(log)-1-i]
		}
		if p.Over(now) {
			continue
		}
		if out = append(out, p); len(out) == q.Limit {
			break
		}
	}
	return out
}

// place returns the index of an offset in a log of n that begins with first, cut to 0 to n.
func place(offset, first uint64, n int) int {
	switch {
	case offset <= first:
		return 0
	case offset-first >= uint64(n):
		return n
	}
	return int(offset - first)
}

// floor returns the offset of the latest publication that is gone.
func (st *stream) floor() uint64 {
	if len(st.log) > 0 {
		return st.log[0].Offset - 1
	}
	return st.offset
}

// next is the second at which something of the stream expires.
func (st *stream) next() uint32 {
	if len(st.log) > 0 {
		return st.log[0].Expires
	}
	return st.forget
}

// schedule has the streams of which something expires, the next one first, without a timer for any.
type schedule struct {
	heap         []*stream
	publications int   // in all of them
	evicted      int64 // publications that went before their time
}

// Len implements heap.Interface.
func (h *schedule) Len() int { return len(h.heap) }

// Less implements heap.Interface.
func (h *schedule) Less(i, j int) bool { return h.heap[i].due < h.heap[j].due }

// Swap implements heap.Interface.
func (h *schedule) Swap(i, j int) {
	h.heap[i], h.heap[j] = h.heap[j], h.heap[i]
	h.heap[i].index, h.heap[j].index = int32(i), int32(j)
}

// Push implements heap.Interface.
func (h *schedule) Push(x any) {
	st := x.(*stream)
	st.index = int32(len(h.heap))
	h.heap = append(h.heap, st)
}

// Pop implements heap.Interface.
func (h *schedule) Pop() any {
	last := len(h.heap) - 1
	st := h.heap[last]
	h.heap[last] = nil
	h.heap = h.heap[:last]
	st.index = -1
	return st
}

// put schedules a stream, or moves it to its place. A stream whose next expiry is later than before keeps its place, and
// is looked at once in vain: that is cheaper than a move for each publication.
func (h *schedule) put(st *stream) {
	due := st.next()
	switch {
	case st.index < 0:
		st.due = due
		heap.Push(h, st)
	case due < st.due:
		st.due = due
		heap.Fix(h, int(st.index))
	}
}

// expire lets go of what is due. Positions of channels with subscribers stay.
func (s *stripe) expire(now uint32, sink hub.Sink) {
	s.keys.expire(now)
	for len(s.due.heap) > 0 && s.due.heap[0].due <= now {
		st := s.due.heap[0]
		st.expire(s, now)
		if len(st.log) == 0 && st.forget <= now {
			if !sink.Subscribed(st.name) {
				s.remove(st)
				continue
			}
			st.touch(now + recheck)
		}
		st.due = max(st.next(), now+1)
		heap.Fix(&s.due, int(st.index))
	}
}

// recheck is for how long a position is kept that would be forgotten, were there no subscribers, in seconds.
const recheck = 600

// remove forgets a stream.
func (s *stripe) remove(st *stream) {
	st.clear(s)
	if st.index >= 0 {
		heap.Remove(&s.due, int(st.index))
	}
	s.forget(st)
}

// forget takes a stream out that is not in the schedule.
func (s *stripe) forget(st *stream) {
	s.streams.Remove(names.Hash(st.name), st.name)
	delete(s.versions, st.name)
}

// giveUp lets publications go before their time, those first that would expire first, until so many bytes are free.
func (s *stripe) giveUp(bytes int) {
	for bytes > 0 && len(s.due.heap) > 0 {
		st := s.due.heap[0]
		if len(st.log) == 0 {
			if st = s.fullest(); len(st.log) == 0 {
				return
			}
		}
		n := 0
		for ; n < len(st.log) && bytes > 0; n++ {
			bytes -= size(st.log[n])
		}
		st.drop(s, n)
		s.due.evicted += int64(n)
		st.due = st.next()
		heap.Fix(&s.due, int(st.index))
	}
}

// maxLooks bounds the positions that one publication looks at because there are too many.
const maxLooks = 4

// boundStreams lets positions that nobody subscribes to go while there are too many, any of them. If somebody
// subscribes in that moment, he is told.
func (s *stripe) boundStreams(streams int, sink hub.Sink) {
	for looks := 0; looks < maxLooks && len(s.due.heap) > max(streams, 1); looks++ {
		st := s.due.heap[rand.IntN(len(s.due.heap))]
		if sink.Subscribed(st.name) {
			continue
		}
		s.due.evicted += int64(len(st.log))
		s.remove(st)
		sink.Deliver(st.name, &hub.Publication{Kind: hub.KindReset})
	}
}

// fullest returns, of the streams that have publications, one that expires soon. Those without are behind, mostly.
func (s *stripe) fullest() *stream {
	for _, st := range s.due.heap {
		if len(st.log) > 0 {
			return st
		}
	}
	return s.due.heap[0]
}
