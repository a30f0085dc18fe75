package session

import (
	"testing"
	"time"
)

// Sessions of three days at all rates: each is found at the time at which it came, within the accuracy that is promised.
func TestAges(t *testing.T) {
	var table Table
	var a ages
	type one struct {
		s  *Session
		at time.Time
	}
	var all []one
	now := time.Unix(1e9, 0)
	for second := range 3 * 24 * 3600 {
		now = now.Add(time.Second)
		if second%3 == 0 || second%1000 < 20 {
			for range 1 + second%3 {
				s := &Session{}
				table.add(s)
				if second%101 == 0 {
					all = append(all, one{s, now})
				}
				if second%2 == 0 {
					table.remove(s)
				}
			}
		}
		a.note(&table, now)
	}
	if len(a.marks) >= maxMarks {
		t.Errorf("%d marks", len(a.marks))
	}
	for _, o := range all {
		got := a.of(o.s.id, now)
		age, off := now.Sub(o.at), got.Sub(o.at)
		if off < 0 || off > 4*time.Second+age/50 {
			t.Errorf("a session of %v ago is said to be of %v ago", age, now.Sub(got))
		}
	}
	late := &Session{}
	table.add(late)
	if got := a.of(late.id, now); got != now {
		t.Errorf("one that no mark has seen is of %v", got)
	}
}

// The generations of a shard wrap around.
func TestAgesWrap(t *testing.T) {
	var table Table
	var a ages
	for i := range table.shards {
		table.shards[i].generation = 1<<32 - 3
	}
	start := time.Unix(1e9, 0)
	var sessions []*Session
	for i := range 10 * tableShards {
		s := &Session{}
		table.add(s)
		sessions = append(sessions, s)
		a.note(&table, start.Add(time.Duration(i)*time.Second))
	}
	for i, s := range sessions {
		if got := a.of(s.id, start); got != start.Add(time.Duration(i)*time.Second) {
			t.Fatalf("session %d is of %v", i, got.Sub(start))
		}
	}
}
