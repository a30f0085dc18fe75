package events

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millpond/millpond/push/hub"
)

const allOfChannels = ofChannels | ofMembers | hub.EventCacheMiss

// script tells a tracker what happens: "+channel user" and "-channel user", with ! behind if it is the first or the last, "?channel"
// for a miss, "t" for a time in which the debounce passes.
func script(wanted hub.Events, debounce time.Duration, steps string) (recorded []string) {
	t := newTracker(debounce, func(tag uint8, b Body) {
		line := strings.TrimSpace(fmt.Sprintf("%s %s %s", b.Type, b.Channel, b.User))
		if tag == opens {
			line += " …"
		}
		recorded = append(recorded, line)
	})
	for step := range strings.SplitSeq(steps, ", ") {
		step, edge := strings.CutSuffix(step, "!")
		channel, user, _ := strings.Cut(step[1:], " ")
		switch step[0] {
		case '+':
			t.subscribed(channel, user, edge, wanted)
		case '-':
			t.unsubscribed(channel, user, edge, wanted)
		case '?':
			t.missed(channel)
		case 't':
			t.sweep(time.Hour) // departures bear the time at which they really happened, a moment after the start
		}
	}
	return recorded
}

func TestTracker(t *testing.T) {
	for _, tt := range []struct {
		name     string
		wanted   hub.Events
		debounce time.Duration
		steps    string
		want     []string
	}{
		{"a visit", allOfChannels, time.Second, "+c u!, -c u!, t", []string{
			"channel_occupied c …", "member_joined c u …", "member_left c u", "channel_vacated c",
		}},
		{"at once", allOfChannels, 0, "+c u!, -c u!, +c u!", []string{
			"channel_occupied c …", "member_joined c u …", "member_left c u", "channel_vacated c", "channel_occupied c …", "member_joined c u …",
		}},
		{"back in time", allOfChannels, time.Second, "+c u!, -c u!, +c u!, -c u!, +c u!, t", []string{"channel_occupied c …", "member_joined c u …"}},
		{"back in time, and away", allOfChannels, time.Second, "+c u!, -c u!, +c u!, -c u!, t", []string{
			"channel_occupied c …", "member_joined c u …", "member_left c u", "channel_vacated c",
		}},
		{"back too late", allOfChannels, time.Second, "+c u!, -c u!, t, +c u!", []string{
			"channel_occupied c …", "member_joined c u …", "member_left c u", "channel_vacated c", "channel_occupied c …", "member_joined c u …",
		}},
		{"another keeps the channel", allOfChannels, time.Second, "+c u!, -c u!, +c v!, t", []string{
			"channel_occupied c …", "member_joined c u …", "member_joined c v …", "member_left c u",
		}},
		{"members leave before it is vacated, whoever was back", allOfChannels, time.Second, "+c u!, -c u!, +c v!, +c u, -c u, -c v!, t", []string{
			"channel_occupied c …", "member_joined c u …", "member_joined c v …", "member_left c u", "member_left c v", "channel_vacated c",
		}},
		{"two connections of a user", allOfChannels, time.Second, "+c u!, +c u, -c u, t, -c u!, t", []string{
			"channel_occupied c …", "member_joined c u …", "member_left c u", "channel_vacated c",
		}},
		{"nobody's", allOfChannels, time.Second, "+c !, -c !, t", []string{"channel_occupied c …", "channel_vacated c"}},
		{"channels alone", ofChannels, time.Second, "+c u!, +c v, -c v, -c u!, t", []string{"channel_occupied c …", "channel_vacated c"}},
		{"members alone", ofMembers, time.Second, "+c u!, +c v, -c v, -c u!, t", []string{
			"member_joined c u …", "member_joined c v …", "member_left c v", "member_left c u",
		}},
		{"begins alone", hub.EventOccupied | hub.EventJoined, time.Second, "+c u!, -c u!, t", []string{"channel_occupied c", "member_joined c u"}},
		{"ends alone", hub.EventVacated | hub.EventLeft, time.Second, "+c u!, -c u!, t", []string{"member_left c u", "channel_vacated c"}},
		{"misses", allOfChannels, time.Second, "?c, ?c, ?d, t, ?c", []string{"cache_miss c", "cache_miss d", "cache_miss c"}},
		{"misses at once", allOfChannels, 0, "?c, ?c", []string{"cache_miss c", "cache_miss c"}},
		{"went without having come", allOfChannels, time.Second, "+c !, -c u!, t", []string{"channel_occupied c …", "channel_vacated c"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := script(tt.wanted, tt.debounce, tt.steps); !slices.Equal(got, tt.want) {
				t.Errorf("recorded\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// A client that flaps takes no more memory than one that does not.
func TestFlappingIsBounded(t *testing.T) {
	tr := newTracker(time.Hour, func(uint8, Body) {})
	for range 100_000 {
		tr.subscribed("c", "u", true, allOfChannels)
		tr.unsubscribed("c", "u", true, allOfChannels)
	}
	if n := len(tr.shard("c").held); n > 2048 {
		t.Errorf("%d departures are held back, of two", n)
	}
	tr.sweep(tr.now())
	if entries, held := tr.tracked(); entries != 2 || held != 2 {
		t.Errorf("%d entries, %d held back: nothing is due", entries, held)
	}
	tr.finish()
	if entries, held := tr.tracked(); entries != 0 || held != 0 {
		t.Errorf("%d entries, %d held back are left", entries, held)
	}
}

// What has gone a moment ago is not due yet, what has long ago is.
func TestDebounceIsKept(t *testing.T) {
	var recorded []string
	tr := newTracker(time.Hour, func(_ uint8, b Body) { recorded = append(recorded, b.Type) })
	tr.subscribed("c", "", true, ofChannels)
	tr.unsubscribed("c", "", true, ofChannels)
	tr.sweep(time.Hour - 1)
	if len(recorded) != 1 {
		t.Errorf("recorded %v before its time", recorded)
	}
	tr.sweep(2 * time.Hour)
	if len(recorded) != 2 {
		t.Errorf("recorded %v", recorded)
	}
}
