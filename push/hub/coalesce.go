package hub

// events is what a batch knows of its events while it is a queue.
type events struct {
	joins map[string]uint64 // the numbers of the joins that wait and have no leave behind them, by the client; nil while there are none
	count int               // joins and leaves that wait
	gaps  int               // places in the queue whose joins were taken out
}

// push appends p with the next number to the queue b.
func (b *Batch) push(p *Publication, number uint64) {
	b.add(p)
	b.numbers = append(b.numbers, number)
	if p.Kind.class() != comings {
		return
	}
	b.events.count++
	switch {
	case p.Info == nil:
	case p.Kind == KindLeave: // it stays: so does the join before it
		delete(b.events.joins, p.Info.Client)
	default:
		if b.events.joins == nil {
			b.events.joins = make(map[string]uint64)
		}
		b.events.joins[p.Info.Client] = number
	}
}

// long reports whether so much waits in the queue b, events included, that a join and its leave are to take each other out. Before that, all
// are told.
func (b *Batch) long(most int) bool { return len(b.publications)-b.events.gaps >= most }

// fewGaps are not worth closing.
const fewGaps = 64

// cancel takes the join out of the queue b that the leave p would undo, if it waits there, and reports whether it did: nobody has to hear of
// a client that has gone already. Whoever is subscribed hears of the join and of the leave, or of neither, or came in between.
//
// Without it, a client that comes and goes would make a queue grow for as long as its subscribers take for what is before.
func (b *Batch) cancel(p *Publication) bool {
	if p.Kind != KindLeave || p.Info == nil {
		return false
	}
	number, ok := b.events.joins[p.Info.Client]
	if !ok {
		return false
	}
	delete(b.events.joins, p.Info.Client)
	i := b.place(number)
	b.publications[i].delivered(nil)
	b.publications[i] = nil
	b.events.count--
	if b.events.gaps++; b.events.gaps > max(fewGaps, len(b.publications)/2) {
		b.closeGaps()
	}
	return true
}

// closeGaps removes the places whose joins were taken out.
func (b *Batch) closeGaps() {
	if b.events.gaps == 0 {
		return
	}
	n := 0
	for i, p := range b.publications {
		if p != nil {
			b.publications[n], b.numbers[n] = p, b.numbers[i]
			n++
		}
	}
	clear(b.publications[n:])
	b.publications, b.numbers, b.events.gaps = b.publications[:n], b.numbers[:n], 0
}

// split takes the first publications out of the queue b, at most so many. rest is the queue of the others; nil if there are none.
func (b *Batch) split(most int) (head, rest *Batch) {
	if len(b.publications) <= most {
		b.closeGaps()
		b.events = events{}
		return b, nil
	}
	head = newBatch()
	n := 0
	for ; n < len(b.publications) && len(head.publications) < most; n++ {
		p := b.publications[n]
		if p == nil {
			b.events.gaps--
			continue
		}
		head.add(p)
		head.numbers = append(head.numbers, b.numbers[n])
		b.bytes -= len(p.Data)
		if p.Kind.class() == comings {
			b.events.count--
			b.forgetJoin(p, b.numbers[n])
		}
	}
	clear(b.publications[:n])
	b.publications, b.numbers = b.publications[n:], b.numbers[n:]
	return head, b
}

// forgetJoin notes that p, if it is a join, can not be taken out any more.
func (b *Batch) forgetJoin(p *Publication, number uint64) {
	if p.Kind == KindJoin && p.Info != nil && b.events.joins[p.Info.Client] == number {
		delete(b.events.joins, p.Info.Client)
	}
}
