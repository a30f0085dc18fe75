package bench

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Failed returns how many failures there were that are not the publications'.
func (r LossReport) Failed() (n int) {
	for _, failures := range r.Failures {
		n += failures
	}
	return n
}

// String is the report for people.
func (r LossReport) String() string {
	var b strings.Builder
	codec := "JSON"
	if r.Protobuf {
		codec = "Protobuf"
	}
	fmt.Fprintf(&b, "loss: %d publishers, %d channels, %d subscribers by %s with %d subscriptions each, %.1fs\n",
		r.Publishers, r.Channels, r.Subscribers, codec, r.Subscriptions, r.Duration.Seconds())
	fmt.Fprintf(&b, "  published           %10d (%.0f/s)\n", r.Published, float64(r.Published)/r.Duration.Seconds())
	fmt.Fprintf(&b, "  checked             %10d deliveries: %d pushed, %d recovered\n", r.Checked(), r.Delivered, r.Recovered)
	total := 0
	for _, n := range r.Reconnects {
		total += n
	}
	fmt.Fprintf(&b, "  came back           %10d times, after\n", total)
	for _, cause := range slices.Sorted(maps.Keys(r.Reconnects)) {
		fmt.Fprintf(&b, "    %17d %s\n", r.Reconnects[cause], cause)
	}
	fmt.Fprintf(&b, "  subscriptions       %10d recovered, %d not, for which %d publications came too late\n", r.Recoveries, r.Unrecovered, r.Skipped)
	fmt.Fprintf(&b, "  lost                %10d\n  doubled             %10d\n  out of order        %10d\n", r.Lost, r.Doubled, r.Reordered)
	fmt.Fprintf(&b, "  wrong offset        %10d\n  changed             %10d\n", r.Mismatches, r.Changed)
	writeFailures(&b, r.Failures)
	return b.String()
}
