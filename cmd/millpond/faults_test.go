package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// This file has what may happen between the nodes of a cluster, and between a node and its broker.

// long reports whether the forms of these tests are wanted that take minutes: MILLPOND_LONG_FAULTS=1.
func long() bool { return os.Getenv("MILLPOND_LONG_FAULTS") != "" }

// startWired starts three nodes that reach each other only by wires.
func startWired(t *testing.T) *pond {
	t.Helper()
	p := newPond(t, 3)
	p.wires = map[[2]int]*wire{}
	for i := range p.nodes {
		for j := range p.nodes {
			if i != j {
				p.wires[[2]int{i, j}] = newWire(t, p.routes[j])
			}
		}
	}
	p.args = []string{"--nats-publish-timeout=2s", "--api-timeout=5s"}
	p.startAll()
	return p
}

// part does something to all wires of a node.
func (p *pond) part(node int, now way) {
	for pair, w := range p.wires {
		if pair[0] == node || pair[1] == node {
			w.set(now)
		}
	}
}

// isRefused publishes on a node, and reports whether that was refused with an error that says to try again.
func (l *load) isRefused(node *process) bool {
	l.t.Helper()
	err := l.call(node, `{"channels":["other0","other1"],"data":[0,0]}`)
	if err != nil && !strings.Contains(err.Error(), "unavailable") {
		l.t.Errorf("refused with %v, which says not why", err)
	}
	return err != nil
}

// numbers publishes the numbers from first on in a channel, so many at a time, until each is acknowledged.
func (l *load) numbers(node *process, channel string, first, n, each int) {
	l.t.Helper()
	for end := first + n; first < end; {
		var commands []string
		for i := first; i < min(end, first+each); i++ {
			commands = append(commands, fmt.Sprintf(`{"publish":{"channel":%q,"data":[0,%d],"idempotency_key":"n%d"}}`, channel, i, i))
		}
		response, err := http.Post("http://"+node.internal+"/api/batch", "application/json", strings.NewReader(`{"commands":[`+strings.Join(commands, ",")+`]}`))
		if err != nil {
			l.t.Fatal(err)
		}
		var answer struct{ Replies []struct{ Error *apiError } }
		err = json.NewDecoder(response.Body).Decode(&answer)
		_ = response.Body.Close()
		if err != nil || len(answer.Replies) != len(commands) {
			l.t.Fatalf("%d answers, %v", len(answer.Replies), err)
		}
		refused := false
		for _, r := range answer.Replies {
			switch {
			case r.Error == nil && refused:
				l.t.Fatal("a later one was acknowledged: this is another order")
			case r.Error == nil:
				first++
			case r.Error.Code == 114:
				refused = true
			default:
				l.t.Fatal(r.Error)
			}
		}
	}
}

// One of three nodes is cut off from the others, without a word and with its connections closed: it takes no publication, keeps its clients, and brings them
// everything when it is back; who missed more than is kept is told.
func TestPartition(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes")
	}
	t.Parallel() // most of it is waiting
	for _, c := range []struct {
		name string
		way  way
	}{{"silent", way{silent: true}}, {"cut", way{cut: true}}} {
		t.Run(c.name, func(t *testing.T) {
			if c.way.cut && !long() {
				t.Skip("MILLPOND_LONG_FAULTS is not set")
			}
			t.Parallel()
			p := startWired(t)
			l := startLoad(t, p, 6)
			const alone = 2
			brief := &tail{load: l, at: alone, channel: "brief:b", mayReset: true}
			l.running.Go(brief.run)
			eventually(t, "it follows", brief.subscribed.Load)
			l.numbers(p.at(0), brief.channel, 1, 5, 1)
			l.goOn("all are there", 20)
			eventually(t, "the short one has all", func() bool { return brief.last[0].Load() == 5 })

			p.part(alone, c.way)
			eventually(t, "nothing can be published on the node that is alone", func() bool { return l.isRefused(p.at(alone)) })
			before := l.acked[0].Load()
			eventually(t, "the others go on", func() bool { return l.acked[0].Load() > before+20 })
			// So many that not even the log has all.
			l.numbers(p.at(0), brief.channel, 6, 1, 1) // until there is somebody who leads the log
			l.numbers(p.at(0), brief.channel, 7, 1099, 100)
			if !l.isRefused(p.at(alone)) {
				t.Error("a node that is alone acknowledged a publication")
			}

			p.part(alone, way{})
			l.goOn("it is back", 20)
			number := 1105
			eventually(t, "the one that missed much goes on", func() bool {
				number++
				l.numbers(p.at(1), brief.channel, number, 1, 1) // what comes before it has subscribed again is not for it
				return brief.last[0].Load() >= int64(number-1)
			})
			t.Logf("it was told %d times that something is missing", brief.told.Load()) // not at all if its server had all, and handed it over in time
			if n := l.comeback.Load(); n > 0 {
				t.Errorf("%d clients lost their connection", n)
			}
			l.finish()
		})
	}
}

// All routes are slow: publications are, too, or are refused, and nothing is lost.
func TestSlowRoutes(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes")
	}
	t.Parallel() // most of it is waiting
	p := startWired(t)
	l := startLoad(t, p, 6)
	l.goOn("all are there", 20)
	for _, delay := range []time.Duration{20 * time.Millisecond, 200 * time.Millisecond} {
		for _, w := range p.wires {
			w.set(way{delay: delay})
		}
		l.goOn(fmt.Sprint("each piece takes ", delay), 5)
	}
	for _, w := range p.wires {
		w.set(way{})
	}
	l.goOn("they are fast again", 20)
	l.finish()
}
