package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowdRun is a crowd of a test, with who publishes to it.
type crowdRun struct {
	t     *testing.T
	job   job
	part  *part
	press *press
}

func newCrowdRun(t *testing.T, target Target, p Protocol, c crowdConfig, subscribers, publishers int) *crowdRun {
	t.Helper()
	c.Prefix, c.Publishers = fmt.Sprintf("bench:%x-", time.Now().UnixNano()), publishersOf(c.Channels, publishers)
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	part, job, err := newPart(t.Context(), plan{
		Job: crowdJob, Target: target, Options: Options{Protocol: p, Timeout: 5 * time.Second}, Connections: subscribers, Share: 1, Config: config,
	})
	if err != nil {
		t.Fatal(err)
	}
	publisher, err := newAPI(target, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	r := &crowdRun{t: t, job: job, part: part, press: newPress(publisher, c.Prefix, c.Channels, publishers, 100)}
	t.Cleanup(func() {
		job.close()
		publisher.close()
		if err := loops.leave(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *crowdRun) order(ctx context.Context, name string, args any) (any, error) {
	b, err := json.Marshal(args)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.job.order(ctx, name, b)
}

// run subscribes, publishes, has the subscribers do what they do, and returns what they have found.
func (r *crowdRun) run(behaves bool, messages int) (verdict, error) {
	ctx := r.t.Context()
	if _, err := r.order(ctx, "subscribe", nil); err != nil {
		return verdict{}, err
	}
	_, _ = r.order(ctx, "publishing", nil)
	behaving, calm := context.WithCancel(ctx)
	defer calm()
	var others sync.WaitGroup
	defer others.Wait()
	if behaves {
		others.Go(func() { _, _ = r.order(behaving, "behave", nil) })
	}
	err := r.press.pace(ctx, time.Duration(messages)*2*time.Millisecond, steadily(500))
	if err == nil && behaves {
		calm()
		others.Wait()
		_, err = r.order(ctx, "gather", nil)
	}
	if err == nil {
		_, err = r.order(ctx, "await", awaited{Published: r.press.published()})
	}
	v, _ := r.order(ctx, "settle", r.press.settlement())
	return v.(verdict), err
}

// restless is what subscribers do in tests.
var restless = Behaviour{Stay: 200 * time.Millisecond, Away: 50 * time.Millisecond, SlowFor: 50 * time.Millisecond, Reset: 1, FIN: 1, Close: 1, Slow: 1, Moves: 1}

// What a server does wrong is what is said of it, in every protocol, of clients that stay and of such that come and go.
func TestCrowdJudges(t *testing.T) {
	for _, tt := range []struct {
		fault string
		want  string // a part of the error
	}{
		{faultNone, ""},
		{faultDrops, " lost, "},
		{faultDoubles, " doubled, "},
		{faultReorders, " out of order, "},
		{faultCorrupts, " changed"},
		{faultMisplaces, " of another channel"},
		{faultForeign, " in channels not subscribed to"},
		{faultOffsets, " lost by offset"},
		{faultSilent, " lost, "},
		{faultGap, " lost by offset"},
	} {
		for _, p := range []Protocol{ProtocolJSON, ProtocolProtobuf, ProtocolPlain} {
			for _, behaves := range []bool{false, true} {
				if !behaves && (tt.fault == faultGap || p != ProtocolJSON) {
					continue // nobody recovers; and the others are enough
				}
				want := tt.want
				if tt.fault == faultSilent && behaves {
					want = " too late, " // they recover it all
				}
				t.Run(fmt.Sprintf("%s/%s/%t", tt.fault, p, behaves), func(t *testing.T) {
					t.Parallel()
					c := crowdConfig{Channels: 3, Each: 2, Positions: true, Patience: 300 * time.Millisecond, Overdue: time.Minute, Behaviour: restless}
					if tt.fault == faultSilent {
						c.Overdue = 20 * time.Millisecond // of those who leave before it is over nobody can tell
					}
					r := newCrowdRun(t, startBroken(t, tt.fault, 7, p), p, c, 6, 2)
					v, err := r.run(behaves, 200)
					if err != nil {
						t.Fatal(err)
					}
					if faults := r.part.faults.all(); len(faults) > 0 {
						t.Errorf("failures: %v", faults)
					}
					switch err := v.err(); {
					case want == "" && v.Counts.Err() != nil, want != "" && (err == nil || !strings.Contains(err.Error()+", ", want)):
						t.Errorf("%v, want %q; %+v", err, want, v)
					case v.Counts.Checked() < 200 && tt.fault != faultSilent:
						t.Errorf("nothing is proved: %+v", v)
					case behaves && (len(v.Causes) == 0 || v.Counts.Recoveries == 0):
						t.Errorf("nobody came back: %+v", v)
					}
				})
			}
		}
	}
}

// A server that does not answer, or answers nonsense, ends the run with what it did.
func TestCrowdOfServersThatFail(t *testing.T) {
	for fault, want := range map[string]string{
		faultMute: errSlowStart.Error(), faultAPI: "publish", faultRefuses: "permission denied", faultGarbage: "", faultCuts: errHungUp.Error(),
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			c := crowdConfig{Channels: 1, Each: 1, Positions: true, Patience: 300 * time.Millisecond, Overdue: time.Minute}
			r := newCrowdRun(t, startBroken(t, fault, 5, ProtocolJSON), ProtocolJSON, c, 3, 1)
			r.part.Options.Timeout, r.press.api.conns.timeout = time.Second, time.Second
			_, err := r.run(false, 20)
			for what := range r.part.faults.all() {
				err = errors.Join(err, errors.New(what))
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
}

// What comes later than patience has it is counted.
func TestCrowdWaitsNotForEver(t *testing.T) {
	c := crowdConfig{Channels: 1, Each: 1, Positions: true, Patience: time.Second, Overdue: time.Second}
	r := newCrowdRun(t, startBroken(t, faultLate, 10, ProtocolJSON), ProtocolJSON, c, 2, 1)
	v, err := r.run(false, 30)
	if err != nil || v.err() == nil {
		t.Errorf("%+v, %v", v, err)
	}
}
