package dashboard

import (
	"testing"
	"time"
)

func TestTickets(t *testing.T) {
	var all tickets
	now := time.Unix(1e9, 0)
	if all.take("", now) || all.take("x", now) {
		t.Error("one that was never given is good")
	}
	ticket := all.give(now)
	if len(ticket) < 22 {
		t.Errorf("%q can be guessed", ticket)
	}
	if !all.take(ticket, now.Add(ticketTime)) || all.take(ticket, now) {
		t.Error("one is not good for once")
	}
	late := all.give(now)
	if all.take(late, now.Add(ticketTime+time.Second)) {
		t.Error("one is good for longer than it should be")
	}
	for range 3 * maxTickets {
		ticket = all.give(now)
	}
	if len(all.good) > maxTickets || !all.take(ticket, now) {
		t.Errorf("%d are kept", len(all.good))
	}
	all.give(now.Add(time.Hour))
	if len(all.good) != 1 {
		t.Errorf("%d are kept that are good no more", len(all.good)-1)
	}
}
