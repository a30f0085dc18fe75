package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

const (
	publicAddress   = "127.0.0.1:8000"
	internalAddress = "127.0.0.1:8001"
)

// measurement is what happens in the machine.
type measurement struct {
	plan   plan
	say    func(string, ...any)
	probe  probe
	report report
	files  []file

	server *exec.Cmd
	client *exec.Cmd
	spoken bytes.Buffer // what the client printed
	ended  chan error   // the client's
}

// run is the plan: the server, the clients, the figures. What it has found comes with an error, too.
func run(ctx context.Context, p plan, sysctls []string, say func(string, ...any)) ([]file, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return nil, err
	}
	m := measurement{plan: p, say: say, probe: probe{started: time.Now(), fs: fs}, ended: make(chan error, 1)}
	m.report = report{Connections: p.Connections, PingInterval: p.PingInterval.Seconds(), Sysctls: sysctls, Machine: describe(fs)}
	err = m.run(ctx)
	if err != nil {
		m.report.Failed = err.Error()
	}
	content, e := json.MarshalIndent(m.report, "", "  ")
	return append(m.files, file{reportName, append(content, '\n')}), errors.Join(err, e)
}

func describe(fs procfs.FS) machine {
	var name unix.Utsname
	_ = unix.Uname(&name)
	d := machine{
		Kernel: unix.ByteSliceToString(name.Release[:]) + " " + unix.ByteSliceToString(name.Version[:]),
		CPUs:   runtime.NumCPU(),
		Clock:  setting("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
		// What of it is in brackets holds.
		HugePages: setting("/sys/kernel/mm/transparent_hugepage/enabled"),
	}
	if info, err := fs.Meminfo(); err == nil && info.MemTotalBytes != nil {
		d.Memory = int64(*info.MemTotalBytes)
	}
	if list, err := fs.CPUInfo(); err == nil && len(list) > 0 {
		d.Processor = list[0].ModelName
	}
	return d
}

func setting(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

func (m *measurement) run(ctx context.Context) error {
	m.say("%d connections, a heartbeat every %v; %d CPUs, %.1f GB, %s", m.plan.Connections, m.plan.PingInterval,
		m.report.Machine.CPUs, gigabytes(m.report.Machine.Memory), m.report.Machine.Kernel)
	if err := m.startServer(ctx); err != nil {
		return err
	}
	var err error
	if m.report.Base, err = m.probe.read(); err != nil {
		return err
	}
	if err = m.startClient(ctx); err != nil {
		return err
	}
	return errors.Join(m.watch(ctx), m.stopServer())
}

// listening is in the server's log, and what follows is not waited for.
var listening = regexp.MustCompile(`listening.*listener=internal`)

func (m *measurement) startServer(ctx context.Context) error {
	// An emulated CPU is late for what a real one has ample time for.
	m.server = exec.CommandContext(ctx, "/"+serverPath, "serve", "--dev", "--listen="+publicAddress, "--internal-listen="+internalAddress,
		"--ping-interval="+m.plan.PingInterval.String(), "--pong-timeout="+m.plan.PongTimeout.String(), "--handshake-timeout=10m", "--max-loop-lag=-1s", "--tcp-keepalive=-1s")
	m.report.ServerCommand = m.server.Args
	log, err := m.server.StderrPipe()
	if err != nil {
		return err
	}
	if err := startOn(0, m.server); err != nil {
		return err
	}
	m.probe.server = m.server.Process.Pid
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		m.say("server: %s", lines.Text())
		if listening.MatchString(lines.Text()) {
			go func() {
				for lines.Scan() {
					m.say("server: %s", lines.Text())
				}
			}()
			return nil
		}
	}
	return errors.Join(errors.New("the server does not listen"), m.server.Wait())
}

// startOn starts the command on one CPU, so that it has one event loop there. Processes that take turns on an emulated
// CPU cost more than they do by themselves: with each switch the emulator forgets what it knows of memory.
func startOn(cpu int, command *exec.Cmd) error {
	runtime.LockOSThread() // its CPUs are inherited
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	one.Set(cpu % before.Count())
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	return errors.Join(command.Start(), unix.SchedSetaffinity(0, &before))
}

func (m *measurement) startClient(ctx context.Context) error {
	m.client = exec.CommandContext(ctx, "/"+serverPath, "bench", "idle", "--url=ws://"+publicAddress+"/echo",
		fmt.Sprintf("--pid=%d", m.server.Process.Pid), fmt.Sprintf("--connections=%d", m.plan.Connections),
		"--duration="+m.plan.hold().String(), "--timeout=10m", "--json")
	m.report.ClientCommand = m.client.Args
	m.client.Stdout, m.client.Stderr = &m.spoken, said{m.say}
	if err := startOn(1, m.client); err != nil {
		return err
	}
	m.probe.client = m.client.Process.Pid
	go func() { m.ended <- m.client.Wait() }()
	return nil
}

// said tells what a child complains of.
type said struct{ say func(string, ...any) }

func (s said) Write(b []byte) (int, error) {
	s.say("client: %s", bytes.TrimSpace(b))
	return len(b), nil
}

var _ io.Writer = said{}

// Figures are read every second, so that the moment is not missed when all connections are open, and told and kept less
// often.
const (
	lookEvery = time.Second
	tellEvery = 10 * time.Second // or when they have changed
)

// news says whether now is worth telling after what was told last.
func (m *measurement) news(now figures) bool {
	n := len(m.report.Timeline)
	if n == 0 {
		return true
	}
	last := m.report.Timeline[n-1]
	waited := now.Seconds - last.Seconds
	if waited < tellEvery.Seconds() {
		return false
	}
	changed := now.Sockets - last.Sockets
	return max(changed, -changed) >= m.plan.Connections/50 || waited >= 6*tellEvery.Seconds()
}

// settledShare of the time that the connections are held is over when they count as settled.
const settledShare = 0.75

// watch reads figures until the client has ended and all sockets are gone: before connections open, when all of them
// just have, when they have been held for most of the time, and after they left.
func (m *measurement) watch(ctx context.Context) (err error) {
	r := &m.report
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var settle <-chan time.Time
	for running := true; running; {
		select {
		case <-settle:
			err = errors.Join(err, m.settled(ctx))
			continue
		case e := <-m.ended:
			err, running, m.probe.client = errors.Join(err, e), false, 0
		case <-ticker.C:
		}
		now, e := m.probe.read()
		if e != nil {
			return errors.Join(err, e)
		}
		if m.news(now) {
			m.tell(now)
			r.Timeline = append(r.Timeline, now)
		}
		switch {
		case settle != nil:
		case now.Sockets <= r.Base.Sockets: // one connection has come and gone by then, and what is needed once is there
			r.Base = now
		case now.Sockets >= r.Base.Sockets+2*m.plan.Connections:
			m.tell(now)
			m.say("all are open")
			r.Opened, settle = now, time.After(time.Duration(settledShare*float64(m.plan.hold())))
		}
	}
	if json.Valid(m.spoken.Bytes()) {
		r.Client = bytes.Clone(m.spoken.Bytes())
	} else {
		m.say("client: %s", m.spoken.Bytes())
	}
	if err != nil {
		return err
	}
	if settle == nil {
		return errors.New("the client ended before all connections were open")
	}
	return m.left()
}

// tell is the progress.
func (m *measurement) tell(f figures) {
	m.say("%8d sockets   server %7.1f MB %7.1f s   client %7.1f MB %7.1f s   slab %7.1f MB   free %7.1f MB", f.Sockets,
		megabytes(f.ServerRSS), f.ServerCPU, megabytes(f.ClientRSS), f.ClientCPU, megabytes(f.Slab), megabytes(f.Free))
}

// settled reads what the open connections cost. Memory comes first, for the rest costs some.
func (m *measurement) settled(ctx context.Context) (err error) {
	if m.report.Settled, err = m.probe.read(); err != nil {
		return err
	}
	page, err := fetch(ctx, "/metrics")
	if err != nil {
		return err
	}
	m.report.Metrics = serverMetrics(page)
	m.say("settled: %+v", m.report.Metrics)
	profile, err := fetch(ctx, "/debug/pprof/heap")
	m.files = append(m.files, file{"metrics.txt", page}, file{"heap.pprof", profile})
	return err
}

// left waits until the kernel has let the connections go, and the server has given back what it gives back.
func (m *measurement) left() (err error) {
	deadline := time.Now().Add(10 * time.Minute)
	for quiet := 0; quiet < 3; {
		time.Sleep(tellEvery / 2) // the time between two looks: nothing tells when the kernel is done
		if m.report.Left, err = m.probe.read(); err != nil {
			return err
		}
		m.tell(m.report.Left)
		if m.report.Left.Sockets <= m.report.Base.Sockets+1 {
			quiet++
		} else if time.Now().After(deadline) {
			return fmt.Errorf("%d sockets are still open after %v", m.report.Left.Sockets, 10*time.Minute)
		}
	}
	return nil
}

// stopServer ends the server as an operator would.
func (m *measurement) stopServer() error {
	if err := m.server.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := m.server.Wait(); err != nil {
		return fmt.Errorf("the server's end: %w", err)
	}
	return nil
}
