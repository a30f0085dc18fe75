package poller

import "testing"

// What waits apart takes no room from the others, whole or half sent, and they take none from it.
func TestApart(t *testing.T) {
	lim := Limits{Bytes: 100, Buffers: 10}
	push := func(q *queue, n int, o Out, want error) {
		t.Helper()
		if _, err := q.push(make([]byte, n), o, lim); err != want {
			t.Errorf("%d bytes, %+v: %v, want %v", n, o, err, want)
		}
	}
	for _, sent := range []int{0, 400, 999} {
		q := new(queue)
		push(q, 1000, Out{Pinned: true, Apart: true}, nil)
		q.advance(sent / 2)
		q.advance(sent - sent/2)
		push(q, 60, Out{}, nil)
		push(q, 1000, Out{Pinned: true, Apart: true}, nil)
		push(q, 41, Out{}, ErrQueueFull)
		push(q, 40, Out{}, nil)
		push(q, 1, Out{}, ErrQueueFull)
		if dropped, err := q.push(make([]byte, 101), Out{Policy: DropOldest}, lim); dropped != 1 || err != nil || q.counted() != 100 {
			t.Errorf("sent %d: dropped %d for one that never fits, %v", sent, dropped, err)
		}
		if dropped, err := q.push(make([]byte, 70), Out{Policy: DropOldest}, lim); dropped != 2 || err != nil {
			t.Errorf("sent %d: dropped %d, %v", sent, dropped, err)
		}
		if q.bytes != 2000-sent+70 || q.counted() != 70 {
			t.Errorf("sent %d: %d bytes, %d counted", sent, q.bytes, q.counted())
		}
	}
}

// Dropping the oldest drops no more for what waits apart.
func TestDropOldestBesideApart(t *testing.T) {
	lim := Limits{Bytes: 100, Buffers: 100}
	q := new(queue)
	for _, o := range []Out{{Pinned: true, Apart: true}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}} {
		n := 10
		if o.Apart {
			n = 5000
		}
		if _, err := q.push(make([]byte, n), o, lim); err != nil {
			t.Fatal(err)
		}
	}
	if dropped, err := q.push(make([]byte, 10), Out{Policy: DropOldest}, lim); dropped != 1 || err != nil {
		t.Errorf("dropped %d, %v", dropped, err)
	}
}
