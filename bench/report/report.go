package report

import (
	"slices"
	"time"
)

// Version is that of the JSON. Readers refuse others.
const Version = 1

// Report is one run.
type Report struct {
	Version     int           `json:"version"`
	Scenario    string        `json:"scenario"`          // as it is called on the command line: "echo"
	Command     []string      `json:"command,omitempty"` // the arguments, without secrets
	Started     time.Time     `json:"started"`           // of what was measured, after the warm-up
	Duration    time.Duration `json:"duration_ns"`
	Environment Environment   `json:"environment"`
	Connections int           `json:"connections"`

	Figures   []Figure          `json:"figures"`
	Latencies []*Distribution   `json:"latencies,omitempty"`
	Series    []Series          `json:"series,omitempty"`
	Errors    map[string]uint64 `json:"errors,omitempty"`   // what went wrong, in words, and how often
	Warnings  []string          `json:"warnings,omitempty"` // what makes the figures doubtful, as a client that was the bottleneck
	Cut       bool              `json:"cut,omitempty"`      // the run was ended before its time
}

// Environment is where it was measured.
type Environment struct {
	Kernel      string            `json:"kernel,omitempty"`
	CPU         string            `json:"cpu,omitempty"`
	Cores       int               `json:"cores,omitempty"`
	MemoryBytes uint64            `json:"memory_bytes,omitempty"`
	Go          string            `json:"go,omitempty"`
	Millpond    string            `json:"millpond,omitempty"` // the tool's version
	Server      []string          `json:"server,omitempty"`   // the server's command line, without secrets
	Sysctl      map[string]string `json:"sysctl,omitempty"`   // by name: net.core.somaxconn
	Limits      map[string]string `json:"limits,omitempty"`   // of the tool's process by name: nofile
}

// Join says what becomes of the figures, or series, of one name when the reports of several processes are merged.
type Join string

// The zero Join is that of what can't be joined, as a quantile: [Report.Merge] leaves it out, and who merges makes it
// anew of what is merged.
const (
	Sum Join = "sum"
	Max Join = "max"
	Min Join = "min"
)

// Figure is one number that a run is about.
type Figure struct {
	Name    string    `json:"name"` // stable and short, for limits and comparisons: "p99", "lost", "bytes/conn", "cpu-us/message"
	Value   float64   `json:"value"`
	Unit    string    `json:"unit,omitempty"`             // "ns", "us", "ms", "s", "B", "KiB", "/s", "%", "x"; empty for a count
	Text    string    `json:"text,omitempty"`             // what it is, in words: "round trip, 99 of 100 are faster"
	Higher  bool      `json:"higher_is_better,omitempty"` // as deliveries per second
	Budget  *Limit    `json:"budget,omitempty"`           // what it must hold
	Samples []float64 `json:"samples,omitempty"`          // repeated measurements, or of intervals, in Unit: what [Compare] judges by
	Missing string    `json:"missing,omitempty"`          // why it was not measured: Value then means nothing
	Of      string    `json:"of,omitempty"`               // the Distribution that a p50, p99 and so on is of: [Compare] judges by it if there are no samples
	Join    Join      `json:"join,omitempty"`
}

// Series is how something went: as time passed, or as connections grew.
type Series struct {
	Name   string       `json:"name"`           // "p99"
	Plot   string       `json:"plot,omitempty"` // series of one Plot and Unit share a diagram of this title: "Round trip". Empty is Name.
	Unit   string       `json:"unit,omitempty"` // of the values, as a Figure's
	X      string       `json:"x,omitempty"`    // what the first of a point is. Empty means seconds since Started; or "connections"
	Join   Join         `json:"join,omitempty"`
	Points [][2]float64 `json:"points"` // rising in the first
}

// New returns a report of the scenario that starts now.
func New(scenario string, connections int) *Report {
	return &Report{Version: Version, Scenario: scenario, Connections: connections, Started: time.Now()}
}

// Add adds figures.
func (r *Report) Add(figures ...Figure) { r.Figures = append(r.Figures, figures...) }

// Fail counts n errors of a kind.
func (r *Report) Fail(what string, n uint64) {
	if n == 0 {
		return
	}
	if r.Errors == nil {
		r.Errors = map[string]uint64{}
	}
	r.Errors[what] += n
}

// Warn adds a warning, once.
func (r *Report) Warn(what string) {
	if !slices.Contains(r.Warnings, what) {
		r.Warnings = append(r.Warnings, what)
	}
}

// Figure returns the figure of that name.
func (r *Report) Figure(name string) (Figure, bool) {
	if i := slices.IndexFunc(r.Figures, func(f Figure) bool { return f.Name == name }); i >= 0 {
		return r.Figures[i], true
	}
	return Figure{}, false
}

// Names returns the names of the figures, in their order.
func (r *Report) Names() []string {
	names := make([]string, len(r.Figures))
	for i, f := range r.Figures {
		names[i] = f.Name
	}
	return names
}
