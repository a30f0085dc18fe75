package pool

// ring is a queue of tasks that gives its memory back when it is empty: a storm may
// once make it a million long.
type ring struct {
	tasks []Task // its length is a power of two
	head  int
	n     int
}

const minRing = 64

func (r *ring) len() int { return r.n }

func (r *ring) push(t Task) {
	if r.n == len(r.tasks) {
		r.grow()
	}
	r.tasks[(r.head+r.n)&(len(r.tasks)-1)] = t
	r.n++
}

func (r *ring) grow() {
	tasks := make([]Task, max(minRing, 2*len(r.tasks)))
	n := copy(tasks, r.tasks[r.head:])
	copy(tasks[n:], r.tasks[:r.head])
	r.tasks, r.head = tasks, 0
}

func (r *ring) pop() (Task, bool) {
	if r.n == 0 {
		return nil, false
	}
	t := r.tasks[r.head]
	r.tasks[r.head] = nil
	r.head = (r.head + 1) & (len(r.tasks) - 1)
	if r.n--; r.n == 0 && len(r.tasks) > minRing {
		*r = ring{}
	}
	return t, true
}
