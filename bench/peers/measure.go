package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// plan is what is measured.
type plan struct {
	millpond  string
	peers     []peer
	rounds    int
	duration  time.Duration
	few, many int
	page      string
	command   string // that makes it again
	tool      *tool
	loads     []float64 // the machine's load average before each turn: what else it did
}

// The servers that are measured beside the peers.
const (
	ours = "millpond"
	bare = "bare loop"
)

// useCase is one load. Its arguments are those of `millpond bench`.
type useCase struct {
	name string
	args []string
}

// The cases, by name.
const (
	caseFew  = "few"
	caseMany = "many"
	caseDeep = "deep"
	caseIdle = "idle"
)

func (p *plan) cases() []useCase {
	count := func(n int) string { return "--connections=" + strconv.Itoa(n) }
	duration := "--duration=" + p.duration.String()
	return []useCase{
		{caseFew, []string{"echo", count(p.few), duration, "--no-bare"}},
		{caseDeep, []string{"echo", count(p.few), duration, "--no-bare", "--depth=16"}},
		{caseMany, []string{"echo", count(p.many), duration, "--no-bare"}},
		{caseIdle, []string{"idle", count(p.many), "--duration=1s"}},
	}
}

// servers are the names of all that are measured.
func (p *plan) servers() []string {
	names := []string{ours}
	for _, peer := range p.peers {
		names = append(names, peer.name)
	}
	return append(names, bare)
}

// results are the outcomes of each case and server, one for each round.
type results map[string]map[string][]*outcome

// measure runs all rounds and writes what they found. In each round every server has its turn in every case, so that
// what else the machine does troubles all of them; each turn has a fresh process.
func (p *plan) measure(ctx context.Context, out, progress io.Writer) error {
	path, err := filepath.Abs(p.millpond)
	if err != nil {
		return err
	}
	p.millpond = path
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("-millpond: %w; make build makes it", err)
	}
	dir, err := os.MkdirTemp("", "millpond-peers-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	p.tool = &tool{path: path, dir: dir}
	all := results{}
	for _, c := range p.cases() {
		all[c.name] = map[string][]*outcome{}
	}
	servers := p.servers()
	for round := range p.rounds {
		for _, c := range p.cases() {
			for i := range servers {
				server := servers[(i+round)%len(servers)] // nobody is always the first
				fmt.Fprintf(progress, "round %d of %d: %s, %s\n", round+1, p.rounds, strings.Join(c.args, " "), server)
				p.loads = append(p.loads, load())
				r, err := p.turn(ctx, server, c)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", server, strings.Join(c.args, " "), err)
				}
				all[c.name][server] = append(all[c.name][server], r)
			}
		}
	}
	t, err := p.tabulate(ctx, all)
	if err != nil {
		return err
	}
	return t.write(out, p.page)
}

// load is the machine's load average of the last minute, 0 if the kernel does not tell.
func load() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	v, _ := strconv.ParseFloat(first, 64) // 0 then
	return v
}

// turn measures a server once.
func (p *plan) turn(ctx context.Context, server string, c useCase) (o *outcome, err error) {
	args := c.args
	if server != ours { // which bench starts by itself
		t, failed := p.start(ctx, server)
		if failed != nil {
			return nil, failed
		}
		defer func() { err = errors.Join(err, t.stop()) }()
		args = append(slices.Clone(args), "--url="+t.url, "--pid="+strconv.Itoa(t.command.Process.Pid))
		if t.metrics != "" {
			args = append(args, "--metrics="+t.metrics)
		}
	}
	return p.tool.bench(ctx, args...)
}

// target is a server that runs.
type target struct {
	command      *exec.Cmd
	url, metrics string
}

// start starts a peer, or the bare loop, which has no page with figures.
func (p *plan) start(ctx context.Context, server string) (*target, error) {
	t := &target{}
	lines := 2
	if server == bare {
		t.command, lines = exec.CommandContext(context.WithoutCancel(ctx), p.millpond, "bench", "bare-server"), 1
	} else {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		t.command = exec.CommandContext(context.WithoutCancel(ctx), self, "serve", server)
	}
	t.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	t.command.Stderr = os.Stderr
	stdout, err := t.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := t.command.Start(); err != nil {
		return nil, err
	}
	urls := make([]string, 2)
	for i, in := 0, bufio.NewReader(stdout); i < lines; i++ {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, errors.Join(fmt.Errorf("it does not listen: %w", err), t.stop())
		}
		urls[i] = strings.TrimSpace(line)
	}
	t.url, t.metrics = urls[0], urls[1]
	return t, nil
}

// stop ends the server, within 30 s.
func (t *target) stop() error {
	if err := t.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	kill := time.AfterFunc(30*time.Second, func() { _ = t.command.Process.Kill() })
	defer kill.Stop()
	if err := t.command.Wait(); err != nil {
		return fmt.Errorf("the server's end: %w", err)
	}
	return nil
}
