package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// smallScenarios are those that load a server of channels, as tests run them.
var smallScenarios = map[string]struct {
	scenario Scenario
	options  Options
}{
	"fanout":   {Fanout{NoBare: true, Channels: 2}, Options{Connections: 6, Duration: 400 * time.Millisecond, Warmup: 50 * time.Millisecond, Rate: 200}},
	"queue":    {Fanout{NoBare: true, Channels: 2, Queue: 10}, Options{Connections: 6, Duration: 200 * time.Millisecond, Warmup: 50 * time.Millisecond}},
	"personal": {Personal{Settle: time.Millisecond}, Options{Connections: 40, Rate: 400}},
	"churn": {
		Churn{Channels: 2, Visits: 50, Stay: 30 * time.Millisecond, Settle: time.Millisecond},
		Options{Connections: 6, Duration: 400 * time.Millisecond, Warmup: 50 * time.Millisecond, Rate: 200},
	},
	"recover": {
		Recover{Overdue: 50 * time.Millisecond, Channels: 4, Stay: 200 * time.Millisecond, Away: 20 * time.Millisecond, Slow: 20 * time.Millisecond, Deliveries: 1},
		Options{Connections: 6, Duration: 600 * time.Millisecond, Rate: 300},
	},
	"mixed": {Mixed{Overdue: 50 * time.Millisecond, Channels: 3, Visits: 20, Stay: 200 * time.Millisecond}, Options{Connections: 30, Duration: time.Second, Rate: 600}},
}

// runSmall runs one against a server that does something wrong, and returns what is printed and the error.
func runSmall(t *testing.T, name, fault string, every int, p Protocol) (printed string, err error) {
	t.Helper()
	small := smallScenarios[name]
	o := small.options
	o.Target, o.Protocol, o.Timeout = startBroken(t, fault, every, p), p, 20*time.Second
	switch o.still = 500 * time.Millisecond; fault {
	case faultAPI, faultMute:
		o.Timeout = time.Second
	case faultNone, faultNone + gapped:
		o.still = 20 * time.Second
	}
	scenario := small.scenario
	if fault != faultSilent {
		switch c := scenario.(type) {
		case Recover:
			c.Overdue = 0
			scenario = c
		case Mixed:
			c.Overdue = 0
			scenario = c
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := Measure(ctx, scenario, o, Stage{})
	if r == nil {
		t.Fatalf("no report: %v", err)
	}
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String(), err
}

// allFaults is set to run each scenario against each fault, which takes a minute or two; else some are enough.
const allFaults = "MILLPOND_BENCH_ALL_FAULTS"

// Each scenario says what a server does wrong, and fails; and is content with one that does nothing wrong, whoever
// made it.
func TestScenariosReportBrokenServers(t *testing.T) {
	faults := map[string]string{
		faultNone:      "",
		faultDrops:     "publications that never came",
		faultDoubles:   "publications that came twice",
		faultReorders:  "publications that came after a later one",
		faultCorrupts:  "publications that are not, to the bit, what was published",
		faultMisplaces: "publications of another channel",
		faultForeign:   "publications in channels that were not subscribed to",
		faultOffsets:   "publications lost, doubled or out of order by the server's own offsets",
		faultGap:       "publications that never came",
		faultSilent:    "publications",
		faultMute:      errSlowStart.Error(),
		faultAPI:       "/api/",
		faultRefuses:   "permission denied",
		faultLate:      "",
		faultGarbage:   "",
		faultCuts:      errHungUp.Error(),
		faultUnheard:   "publications that never came",
		faultLoud:      "publications of another channel",
		faultPast:      "history: publications: 1 lost",
		faultStale:     "history: it ends with",
		faultGhosts:    "presence has",
		faultAbsent:    errNotPresent.Error(),

		faultNone + gapped:      "",
		faultDrops + gapped:     "publications that never came",
		faultDoubles + gapped:   "publications that came twice",
		faultReorders + gapped:  "publications that came after a later one",
		faultMisplaces + gapped: "publications of another channel",
		faultGap + gapped:       "publications that never came",
		faultStale + gapped:     "history: it ends with",
	}
	always := []string{faultUnheard, faultLoud, faultNone, faultNone + gapped, faultDrops, faultDrops + gapped, faultCorrupts, faultGap, faultGap + gapped}
	for name := range smallScenarios {
		for fault, want := range faults {
			asks := slices.Contains([]string{faultPast, faultStale, faultStale + gapped, faultGhosts, faultAbsent}, fault)
			switch {
			case (asks || fault == faultUnheard || fault == faultLoud) && name != "mixed": // nobody asks, or publishes to all besides
				continue
			case strings.HasPrefix(fault, faultGap) && name != "recover" && name != "mixed": // nobody recovers
				continue
			case fault == faultCuts && (name == "recover" || name == "mixed"): // that is what their clients are for
				continue
			case os.Getenv(allFaults) == "" && name != "fanout" && !asks && !slices.Contains(always, fault):
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", name, fault), func(t *testing.T) {
				t.Parallel()
				every := 7
				if name == "personal" || name == "mixed" {
					every = 2 // each gets few
				}
				if name == "personal" && strings.HasPrefix(fault, faultReorders) {
					want = faults[faultDrops] // of the last one, which is held back
				}
				printed, err := runSmall(t, name, fault, every, ProtocolJSON)
				if fault == faultNone || fault == faultNone+gapped {
					if err != nil {
						t.Errorf("%v\n%s", err, printed)
					}
					return
				}
				said := printed
				if err != nil {
					said += err.Error()
				}
				if err == nil || !strings.Contains(said[strings.Index(said, "ERRORS")+1:], want) {
					t.Errorf("%v, want %q in\n%s", err, want, printed)
				}
			})
		}
	}
}

// What needs an own server says so, and what needs the API does.
func TestScenariosSayWhatTheyNeed(t *testing.T) {
	for name, small := range smallScenarios {
		o := small.options
		o.Target.URL = "ws://127.0.0.1:1"
		if _, err := Measure(t.Context(), small.scenario, o, Stage{}); !errors.Is(err, errNoAPI) {
			t.Errorf("%s without --api: %v", name, err)
		}
	}
	o := Options{Target: Target{URL: "ws://127.0.0.1:1", API: "http://127.0.0.1:1/api/"}}
	if _, err := Measure(t.Context(), &Drain{}, o, Stage{}); err == nil || !strings.Contains(err.Error(), "own") {
		t.Errorf("drain: %v", err)
	}
}

// A server whose channels have no presence is measured all the same, and the report says what was left out.
func TestMixedWithoutPresence(t *testing.T) {
	t.Parallel()
	for _, p := range []Protocol{ProtocolJSON, ProtocolPlain} {
		printed, err := runSmall(t, "mixed", faultNobody, 7, p)
		if err != nil {
			t.Errorf("%s: %v\n%s", p, err, printed)
		}
		if !strings.Contains(printed, "calls of presence were refused") || p == ProtocolJSON && !strings.Contains(printed, "a client was not told") {
			t.Errorf("%s: it does not say so:\n%s", p, printed)
		}
	}
}
