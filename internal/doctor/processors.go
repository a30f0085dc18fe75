package doctor

import (
	"fmt"
	"math"
	"slices"
)

// deliveryMicroseconds is about the CPU time of one delivery in a broadcast to many: docs/benchmarks, fanout and recover.
const deliveryMicroseconds = 12

// fastClocks are clock sources that are read without a system call.
var fastClocks = []string{"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "xen"}

func (e *examination) processors() {
	cpus := float64(e.CPUs)
	if e.groups.CPUs > 0 {
		cpus = min(cpus, e.groups.CPUs)
	}
	f := Finding{
		Name: "cpu", Verdict: OK, What: "processors that this process may use", Have: fmt.Sprintf("%.4g", cpus),
		Why: fmt.Sprintf("A message to all %s takes them about %.2g s. With a quota below what runs, the process stands still for parts of each tenth of a second.",
			count(int64(e.plan.Connections)), float64(e.plan.Connections)*deliveryMicroseconds/1e6/cpus),
	}
	switch {
	case cpus < 1:
		f.Verdict, f.Need, f.Fix = Warn, "1", e.place.cpus(1)
	case cpus != math.Trunc(cpus):
		f.Verdict, f.Need, f.Fix = Note, fmt.Sprintf("a whole number, since Go runs on %.0f", math.Ceil(cpus)), e.place.cpus(int(math.Ceil(cpus)))
	}
	e.add(f)

	const file = "sys/devices/system/clocksource/clocksource0/current_clocksource"
	clock := Finding{
		Name: "clock source", Verdict: Unknown, What: "what the kernel reads the time from", Have: "unknown",
		Why: "Each read of a slow one is a system call of a microsecond, and the loops read it at every turn.",
	}
	if have := e.text(file); have != "" {
		clock.Have, clock.Verdict = have, OK
		if !slices.Contains(fastClocks, have) {
			clock.Verdict, clock.Need, clock.Fix = Warn, "tsc, or what the hypervisor has for it", "echo tsc > /"+file+", if available_clocksource beside it lists it"
		}
	}
	e.add(clock)
}
