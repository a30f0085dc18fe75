package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// column is one figure of one case.
type column struct {
	useCase string
	figure  string
	title   string
	scale   float64 // of the figure's unit in what is shown
	format  string
}

func (p *plan) columns() []column {
	return []column{
		{caseFew, "cpu-us/message", fmt.Sprintf("CPU-µs a message, %d connections", p.few), 1, "%.2f"},
		{caseMany, "cpu-us/message", fmt.Sprintf("the same, %d", p.many), 1, "%.2f"},
		{caseDeep, "cpu-us/message", fmt.Sprintf("%d, 16 deep", p.few), 1, "%.3f"},
		{caseFew, "p99", fmt.Sprintf("p99 in ms, %d", p.few), 1e-6, "%.2f"},
		{caseMany, "p99", fmt.Sprintf("p99 in ms, %d", p.many), 1e-6, "%.1f"},
		{caseIdle, "bytes/conn", "bytes of RSS a connection, idle", 1, "%.0f"},
		{caseIdle, "goroutines", "goroutines with them", 1, "%.0f"},
	}
}

// cell is a figure of a server: the median of the rounds, and all of them.
type cell struct {
	UseCase string    `json:"case"`
	Figure  string    `json:"figure"`
	Unit    string    `json:"unit,omitempty"`
	Median  float64   `json:"median"`
	Rounds  []float64 `json:"rounds"`
	Missing string    `json:"missing,omitempty"`
	// Beside says how it is beside millpond: by `millpond bench compare` over the rounds.
	Beside string `json:"beside_millpond,omitempty"`
	Why    string `json:"why,omitempty"`
}

// row is a server.
type row struct {
	Server  string `json:"server"`
	Version string `json:"version,omitempty"`
	About   string `json:"about"`
	Cells   []cell `json:"figures"`
}

// result is what is written.
type result struct {
	Started     time.Time           `json:"started"`
	Command     string              `json:"command"`
	Loads       map[string][]string `json:"cases"` // the arguments of millpond bench
	Environment environment         `json:"environment"`
	Rounds      int                 `json:"rounds"`
	LoadAverage []float64           `json:"load_average,omitempty"` // of the machine, before each turn
	Rows        []row               `json:"servers"`
	Warnings    []string            `json:"warnings,omitempty"`

	columns []column
}

// tabulate makes the table of what the rounds found.
func (p *plan) tabulate(ctx context.Context, all results) (*result, error) {
	first := all[caseFew][ours][0]
	t := &result{
		Started: first.Started, Environment: first.Environment, Rounds: p.rounds, columns: p.columns(), Loads: map[string][]string{},
		Command: p.command, LoadAverage: p.loads,
	}
	for _, c := range p.cases() {
		t.Loads[c.name] = c.args
	}
	for _, server := range p.servers() {
		r := row{Server: server, Version: first.Environment.Millpond, About: "epoll, no goroutine for each connection; heartbeats, bounded outboxes, UTF-8 checked"}
		switch server {
		case ours:
		case bare:
			r.Version, r.About = "", "the floor: epoll, read, unmask, write; no limits, no checks, nothing else"
		default:
			peer, err := named(server)
			if err != nil {
				return nil, err
			}
			r.Version, r.About = version(peer.module), strings.Join(append([]string{peer.about}, peer.lacks...), "; ")
		}
		verdicts := map[string]map[string]verdict{} // of each case
		for _, c := range p.cases() {
			if server == ours {
				break
			}
			var err error
			if verdicts[c.name], err = p.tool.compare(ctx, all[c.name][ours], all[c.name][server]); err != nil {
				return nil, fmt.Errorf("%s, %s: %w", server, c.name, err)
			}
		}
		for _, c := range t.columns {
			r.Cells = append(r.Cells, c.cell(all[c.useCase][server], verdicts[c.useCase][c.figure]))
		}
		t.Rows = append(t.Rows, r)
	}
	t.warnings(all)
	return t, nil
}

// cell is the column of a server.
func (c column) cell(rounds []*outcome, v verdict) cell {
	out := cell{UseCase: c.useCase, Figure: c.figure, Beside: v.Verdict, Why: v.Why}
	for _, o := range rounds {
		f, ok := o.figure(c.figure)
		if !ok {
			return cell{UseCase: c.useCase, Figure: c.figure, Missing: "not measured"}
		}
		out.Unit = f.Unit
		out.Rounds = append(out.Rounds, f.Value)
	}
	out.Median = median(out.Rounds)
	return out
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// warnings gathers those of all reports, by how many had them.
func (t *result) warnings(all results) {
	seen := map[string]int{}
	total := 0
	for _, servers := range all {
		for _, reports := range servers {
			for _, r := range reports {
				total++
				for _, w := range r.Warnings {
					seen[kind(w)]++
				}
			}
		}
	}
	for w, n := range seen {
		t.Warnings = append(t.Warnings, fmt.Sprintf("in %d of %d turns: %s", n, total, w))
	}
	slices.Sort(t.Warnings)
}

// kind is a warning without its numbers, which differ each time.
func kind(warning string) string {
	words := strings.Fields(warning)
	for i, w := range words {
		if strings.ContainsAny(w, "0123456789") {
			words[i] = "…"
		}
	}
	return strings.Join(words, " ")
}

// write writes the table to out, and to the page and its JSON if there is to be one.
func (t *result) write(out io.Writer, page string) error {
	text := t.markdown()
	if _, err := io.WriteString(out, text); err != nil || page == "" {
		return err
	}
	if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
		return err
	}
	b, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(strings.TrimSuffix(page, ".md")+".json", append(b, '\n'), 0o644)
}

// markdown is the page.
func (t *result) markdown() string {
	var b strings.Builder
	b.WriteString("# millpond beside other servers\n\n")
	fmt.Fprintf(&b, "Echo servers in Go, each in a process of its own, measured by `millpond bench` in turns: %d rounds, in each of which every server has every load once,\n"+
		"with a fresh process. Messages have 64 B. Figures are the median of the rounds; those in italics do not differ from millpond's by more than chance. The best of\n"+
		"a column is bold, the bare loop left out. Made by `%s`; [peers.json](peers.json) has every round.\n\n", t.Rounds, t.Command)
	fmt.Fprintf(&b, "Measured on %s, %s. Client and server share the machine, so the latencies are those of a closed loop at full load, and tell more of CPU than of waiting.\n\n",
		t.Started.UTC().Format("2006-01-02"), t.Environment)
	if len(t.LoadAverage) > 0 {
		fmt.Fprintf(&b, "The machine's load average was %.0f to %.0f, half of the time under %.0f; measured by itself this is about 3.\n\n",
			slices.Min(t.LoadAverage), slices.Max(t.LoadAverage), median(t.LoadAverage))
	}
	b.WriteString("| server |")
	for _, c := range t.columns {
		b.WriteString(" " + c.title + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("--:|", len(t.columns)) + "\n")
	for _, r := range t.Rows {
		fmt.Fprintf(&b, "| %s |", r.Server)
		for i := range t.columns {
			b.WriteString(" " + t.show(r, i) + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n## Where others are better\n\n" + t.verdicts())
	b.WriteString("\n## What they are\n\n| server | version | |\n|---|---|---|\n")
	for _, r := range t.Rows {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.Server, r.Version, r.About)
	}
	b.WriteString("\nAll refuse pages of other sites and messages over a bound, and compress nothing. The peers have no heartbeats and no bound on what waits for a slow client; an application on\n" +
		"top of them needs both, and pays for them in each connection. millpond runs as `millpond serve --dev`.\n")
	if len(t.Warnings) > 0 {
		b.WriteString("\n## Warnings\n\n")
		for _, w := range t.Warnings {
			fmt.Fprintf(&b, "- %s\n", w)
		}
	}
	return b.String()
}

// show is one cell of the table.
func (t *result) show(r row, i int) string {
	c := r.Cells[i]
	if c.Missing != "" {
		return "–"
	}
	text := fmt.Sprintf(t.columns[i].format, c.Median*t.columns[i].scale)
	best := r.Server != bare
	for _, other := range t.Rows {
		if other.Server != bare && other.Cells[i].Missing == "" && other.Cells[i].Median < c.Median {
			best = false
		}
	}
	if best {
		text = "**" + text + "**"
	}
	if c.Beside == "same" {
		text = "*" + text + "*"
	}
	return text
}

// verdicts says which servers are better than millpond, and at what.
func (t *result) verdicts() string {
	var b strings.Builder
	own := t.Rows[0]
	for _, r := range t.Rows[1:] {
		for i, c := range r.Cells {
			// Those that may be chance are in italics in the table.
			if r.Server == bare || c.Missing != "" || own.Cells[i].Missing != "" || c.Median >= own.Cells[i].Median || c.Beside == "same" {
				continue
			}
			column := t.columns[i]
			fmt.Fprintf(&b, "- **%s**: %s, "+column.format+" against "+column.format+" (%s)\n", r.Server, column.title, c.Median*column.scale, own.Cells[i].Median*column.scale, c.Why)
		}
	}
	if b.Len() == 0 {
		return "In none of these.\n"
	}
	return b.String()
}
