package doctor

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// marks are what a verdict looks like.
var marks = map[Verdict]struct{ sign, color string }{
	OK: {"✓", "32"}, Note: {"·", "36"}, Warn: {"!", "33"}, Fault: {"✗", "31"}, Unknown: {"?", "2"},
}

// Print writes the report for people: one line for what is well, more for what is not.
func (r Report) Print(w io.Writer, colors bool) error {
	paint := func(v Verdict, s string) string {
		if !colors {
			return s
		}
		return "\x1b[" + marks[v].color + "m" + s + "\x1b[0m"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s connections%s, Linux %s, %s\n\n", count(int64(r.Connections)), map[bool]string{true: " with TLS"}[r.TLS], r.Kernel, r.Place)
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s %-30s %s", paint(f.Verdict, marks[f.Verdict].sign), f.Name, f.Have)
		if f.Need != "" {
			fmt.Fprintf(&b, "; wanted: %s", f.Need)
		}
		b.WriteByte('\n')
		if f.Verdict == OK || f.Verdict == Unknown {
			continue
		}
		fmt.Fprintf(&b, "    %s. %s\n", upperFirst(f.What), f.Why)
		if f.Fix != "" {
			fmt.Fprintf(&b, "    %s %s\n", paint(f.Verdict, "→"), f.Fix)
		}
	}
	fmt.Fprintf(&b, "\n%s\n", r.summary())
	_, err := io.WriteString(w, b.String())
	return err
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// Count returns how many findings have a verdict.
func (r Report) Count(v Verdict) (n int) {
	for _, f := range r.Findings {
		if f.Verdict == v {
			n++
		}
	}
	return n
}

func (r Report) summary() string {
	faults, warnings := r.Count(Fault), r.Count(Warn)
	if faults+warnings == 0 {
		return fmt.Sprintf("%s connections fit.", count(int64(r.Connections)))
	}
	s := fmt.Sprintf("Faults: %d, warnings: %d.", faults, warnings)
	if slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Sysctl != nil }) {
		s += " --write-sysctl FILE writes the kernel's settings to a file."
	}
	return s
}

// Sysctls returns a file for /etc/sysctl.d with what was found wanting, "" if nothing was.
func (r Report) Sysctls() string {
	var b strings.Builder
	for _, f := range r.Findings {
		if f.Sysctl == nil {
			continue
		}
		fmt.Fprintf(&b, "\n# %s. %s\n# It was: %s\n%s = %s\n", upperFirst(f.What), f.Why, f.Have, f.Sysctl.Key, f.Sysctl.Value)
	}
	if b.Len() == 0 {
		return ""
	}
	return fmt.Sprintf("# For %s connections, by millpond doctor. Load with: sysctl --system\n", count(int64(r.Connections))) + b.String()
}
