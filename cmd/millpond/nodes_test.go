package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// This file has three processes that form a cluster, and what is done to them under load: nothing that was acknowledged may be lost.

// pond is a cluster of processes.
type pond struct {
	t      *testing.T
	dirs   []string
	routes []string
	wires  map[[2]int]*wire // from one node to another; empty if they reach each other without
	config string
	args   []string      // of all nodes, beside the usual ones
	disks  map[int]int64 // bytes of the file system of its own that a node has its data on; the others have none

	// Guarded by mu.
	mu    sync.Mutex
	nodes []*process // nil for one that is not there
}

// startPond starts the processes, all at the same time: most have to be there before anything works.
func startPond(t *testing.T, size int) *pond {
	t.Helper()
	p := newPond(t, size)
	p.startAll()
	return p
}

func newPond(t *testing.T, size int) *pond {
	t.Helper()
	p := &pond{t: t, nodes: make([]*process, size), config: historyFile(t)}
	for i := range size {
		p.routes = append(p.routes, freeAddress(t, fmt.Sprintf("127.0.0.%d", i+2)))
		p.dirs = append(p.dirs, filepath.Join(t.TempDir(), "data"))
	}
	return p
}

// freeAddress returns one of a host on which nobody listened just now.
func freeAddress(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (p *pond) startAll() {
	p.t.Helper()
	var starting sync.WaitGroup
	for i := range p.nodes {
		starting.Go(func() { p.start(i) })
	}
	starting.Wait()
	if p.t.Failed() {
		p.t.FailNow()
	}
}

// historyFile is a configuration with histories that are long enough, and channels "brief:…" with short ones.
func historyFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "millpond.yaml")
	if err := os.WriteFile(path, []byte("channels:\n  history_size: 1000\n  history_ttl: 1h\n  force_recovery: true\n"+
		"namespaces:\n  - name: brief\n    history_size: 10\n    history_ttl: 1h\n    force_recovery: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (p *pond) start(i int) {
	command := serveCommandLine(append([]string{"--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0"}, p.flags(i)...)...)
	if size, own := p.disks[i]; own {
		command = onDisk(command, p.dirs[i], size)
	}
	n := startCommand(p.t, command)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodes[i] = n
}

// flags are those of a node.
func (p *pond) flags(i int) []string {
	routes, advertise := p.routes, p.routes[i]
	if len(p.wires) > 0 {
		routes, advertise = nil, "127.0.0.1:1" // so that nobody finds another way
		for j := range p.nodes {
			if w := p.wires[[2]int{i, j}]; w != nil {
				routes = append(routes, w.address)
			}
		}
	}
	return append([]string{
		"--dev", "--nats-embedded", "--data-dir=" + p.dirs[i], fmt.Sprint("--node-name=n", i), "--nats-store-bytes=268435456", "--nats-groups=4",
		"--cluster-name=pond", "--cluster-listen=" + p.routes[i], "--cluster-advertise=" + advertise, "--cluster-routes=" + strings.Join(routes, ","), "--nats-start-timeout=60s",
		"--cluster-timeout=3s", "--cluster-heartbeat=500ms", "--config=" + p.config, "--max-recovered=1000",
	}, p.args...)
}

// failing runs a node that should not start, and returns what it says.
func (p *pond) failing(flags ...string) (string, error) {
	command := serveCommandLine(append([]string{"--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0"}, flags...)...)
	timer := time.AfterFunc(time.Minute, func() { _ = command.Process.Kill() })
	defer timer.Stop()
	out, err := command.CombinedOutput()
	return string(out), err
}

// killAll kills all nodes, so that none of them sees another one go.
func (p *pond) killAll() {
	p.t.Helper()
	p.mu.Lock()
	nodes := slices.Clone(p.nodes)
	clear(p.nodes)
	p.mu.Unlock()
	for _, n := range nodes {
		if err := n.command.Process.Kill(); err != nil {
			p.t.Fatal(err)
		}
	}
	for _, n := range nodes {
		n.wait()
	}
}

// end stops a node by a signal and returns its exit code.
func (p *pond) end(i int, signal syscall.Signal) int {
	p.t.Helper()
	p.mu.Lock()
	n := p.nodes[i]
	p.nodes[i] = nil
	p.mu.Unlock()
	if err := n.command.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
	return n.wait()
}

// at returns a node, or the next one that is there.
func (p *pond) at(i int) *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := range p.nodes {
		if node := p.nodes[(i+n)%len(p.nodes)]; node != nil {
			return node
		}
	}
	return nil
}

// load publishes on all nodes, and follows on all nodes what comes.
type load struct {
	t       *testing.T
	pond    *pond
	ctx     context.Context
	stop    atomic.Bool
	running sync.WaitGroup

	// Any goroutine (atomic).
	acked    [3]atomic.Int64 // the latest number of each publisher that was acknowledged
	refused  atomic.Int64    // attempts
	comeback atomic.Int64    // connections after the first, of all followers
	resets   atomic.Int64    // subscriptions that could not be recovered

	followers []*tail
}

func startLoad(t *testing.T, p *pond, followers int) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, pond: p, ctx: ctx}
	t.Cleanup(func() { l.stop.Store(true); cancel(); l.running.Wait() })
	for i := range followers {
		f := &tail{load: l, at: i, channel: fmt.Sprint("c", i%2)}
		l.followers = append(l.followers, f)
		l.running.Go(f.run)
	}
	eventually(t, "all follow", func() bool {
		for _, f := range l.followers {
			if !f.subscribed.Load() {
				return false
			}
		}
		return true
	})
	for i := range l.acked {
		l.running.Go(func() { l.publish(i) })
	}
	return l
}

// publish publishes number after number to both channels, each until it is acknowledged by some node.
func (l *load) publish(publisher int) {
	at := publisher
	for n := int64(1); !l.stop.Load(); n++ {
		body := fmt.Sprintf(`{"channels":["c0","c1"],"data":[%d,%d],"idempotency_key":"%d.%d"}`, publisher, n, publisher, n)
		for {
			err := l.call(l.pond.at(at), body)
			if err == nil {
				break
			}
			if l.ctx.Err() != nil {
				return
			}
			l.refused.Add(1)
			at++
			time.Sleep(20 * time.Millisecond) // as a backend would
		}
		l.acked[publisher].Store(n)
		time.Sleep(50 * time.Millisecond) // so that the history reaches as far back as a client is away
	}
}

// call broadcasts. What is not published is refused with an error that says to try again, or there is no answer.
func (l *load) call(node *process, body string) error {
	if node == nil {
		return errors.New("no node is there")
	}
	ctx, cancel := context.WithTimeout(l.ctx, 30*time.Second) // longer than --api-timeout: there is an answer
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+node.internal+"/api/broadcast", strings.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct {
		Error  *apiError
		Result struct{ Responses []struct{ Error *apiError } }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	for _, r := range append(answer.Result.Responses, struct{ Error *apiError }{answer.Error}) {
		if r.Error != nil {
			if r.Error.Code != 114 && r.Error.Code != 111 {
				l.t.Errorf("a publication was refused with %+v, which does not say to try again", r.Error)
			}
			return errors.New(r.Error.Message)
		}
	}
	if len(answer.Result.Responses) != 2 {
		return errors.New("not two answers")
	}
	return nil
}

type apiError struct {
	Code    int
	Message string
}

// goOn waits until so many more are acknowledged of each publisher, and all followers have them.
func (l *load) goOn(what string, more int64) {
	l.t.Helper()
	defer func(began time.Time) { l.t.Logf("%s: %v", what, time.Since(began).Round(time.Millisecond)) }(time.Now())
	var want [3]int64
	for i := range l.acked {
		want[i] = l.acked[i].Load() + more
	}
	eventually(l.t, what+": publications are acknowledged", func() bool {
		for i := range l.acked {
			if l.acked[i].Load() < want[i] {
				return false
			}
		}
		return true
	})
	for i, f := range l.followers {
		eventually(l.t, fmt.Sprint(what, ": client ", i, " has them"), func() bool {
			for n := range want {
				if f.last[n].Load() < want[n] {
					return false
				}
			}
			return true
		})
	}
}

// finish ends the publishing and waits until all followers have everything.
func (l *load) finish() {
	l.t.Helper()
	l.goOn("at the end", 1)
	l.stop.Store(true)
	l.goOn("all of it", 0)
	var acked int64
	for i := range l.acked {
		acked += l.acked[i].Load()
	}
	l.t.Logf("proof: %d acknowledged, %d attempts refused or without an answer, %d comebacks, %d not recovered", acked, l.refused.Load(), l.comeback.Load(), l.resets.Load())
	if n := l.resets.Load(); n > 0 {
		l.t.Errorf("%d subscriptions were not recovered, though the history is long enough", n)
	}
}

// tail is a client that goes to the next node when its connection ends, and recovers there.
type tail struct {
	load     *load
	at       int
	channel  string
	mayReset bool // more may be published than is kept, or something else may be lost

	// Any goroutine (atomic).
	subscribed atomic.Bool
	told       atomic.Int64    // times that it was told that something is missing
	last       [3]atomic.Int64 // number of each publisher

	// Owned by the goroutine of run.
	offset uint64
	epoch  string
}

// run follows until the load's end.
func (f *tail) run() {
	for n := 0; f.load.ctx.Err() == nil; n++ {
		if n > 0 {
			f.load.comeback.Add(1)
			time.Sleep(50 * time.Millisecond) // so that one who is refused does not ask without a pause
			f.at++
		}
		if node := f.load.pond.at(f.at); node != nil {
			f.follow(node)
		}
	}
}

// command is what a server sends, as far as it matters here.
type command struct {
	ID        int
	Error     *apiError
	Subscribe *struct {
		Recovered    bool
		Epoch        string
		Offset       uint64
		Publications []publication
	}
	Push *struct {
		Pub         *publication
		Unsubscribe *struct{ Code int }
	}
}

type publication struct {
	Data   [2]int64
	Offset uint64
}

// follow follows the channel on one node until the connection ends.
func (f *tail) follow(node *process) {
	dialing, cancel := context.WithTimeout(f.load.ctx, 5*time.Second)
	c, _, err := websocket.Dial(dialing, "ws://"+node.public+"/connection/websocket", nil)
	cancel()
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(1 << 24)
	subscribe := func() error {
		since := ""
		if f.epoch != "" {
			since = fmt.Sprintf(`,"recover":true,"offset":%d,"epoch":%q`, f.offset, f.epoch)
		}
		return c.Write(f.load.ctx, websocket.MessageText, fmt.Appendf(nil, `{"id":2,"subscribe":{"channel":%q,"positioned":true,"recoverable":true%s}}`, f.channel, since))
	}
	if c.Write(f.load.ctx, websocket.MessageText, []byte(`{"id":1,"connect":{}}`)) != nil {
		return
	}
	for {
		reading, cancel := context.WithTimeout(f.load.ctx, time.Minute)
		_, data, err := c.Read(reading)
		cancel()
		if err != nil {
			return
		}
		for line := range bytes.Lines(data) {
			if len(bytes.TrimSpace(line)) == 2 { // a ping
				err = c.Write(f.load.ctx, websocket.MessageText, []byte("{}"))
				continue
			}
			var m command
			if err := json.Unmarshal(line, &m); err != nil {
				f.load.t.Errorf("%s: %v", line, err)
				return
			}
			switch {
			case m.Error != nil && m.Error.Code != 114 && m.Error.Code != 111:
				f.load.t.Errorf("a client was told %+v", m.Error)
				return
			case m.Error != nil && m.ID == 1:
				return
			case m.Error != nil: // as an SDK does
				time.Sleep(100 * time.Millisecond) // the pause before it asks again
				err = subscribe()
			case m.ID == 1:
				err = subscribe()
			case m.Subscribe != nil:
				f.begin(m)
			case m.Push != nil && m.Push.Pub != nil:
				f.take(*m.Push.Pub)
			case m.Push != nil && m.Push.Unsubscribe != nil:
				err = subscribe()
			}
			if err != nil {
				return
			}
		}
	}
}

func (f *tail) begin(m command) {
	if f.epoch != "" && !m.Subscribe.Recovered {
		if f.told.Add(1); !f.mayReset {
			f.load.resets.Add(1)
		}
		for i := range f.last {
			f.last[i].Store(0)
		}
	}
	for _, p := range m.Subscribe.Publications {
		f.take(p)
	}
	f.offset, f.epoch = max(f.offset, m.Subscribe.Offset), m.Subscribe.Epoch
	f.subscribed.Store(true)
}

// take sees to it that each publisher's numbers come one after the other: none lost, none twice, none in another order.
func (f *tail) take(p publication) {
	if p.Offset <= f.offset {
		f.load.t.Errorf("offset %d came after %d", p.Offset, f.offset)
	}
	f.offset = p.Offset
	last := &f.last[p.Data[0]]
	if n := last.Load(); p.Data[1] != n+1 && (n > 0 || f.told.Load() == 0) {
		f.load.t.Errorf("follower of %s at node %d: number %d of publisher %d came after %d", f.channel, f.at%3, p.Data[1], p.Data[0], last.Load())
	}
	last.Store(p.Data[1])
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within two minutes", what)
		}
	}
}

// Each of three nodes is killed in mid-publish, comes back, stands still, and is restarted in an orderly way: every publication that was acknowledged comes to
// every client, once, in order. Clients go to other nodes and recover there.
func TestThreeProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes")
	}
	t.Parallel() // most of it is the servers' elections
	p := startPond(t, 3)
	l := startLoad(t, p, 6)
	l.goOn("all are there", 20)
	out, err := p.failing(append(p.flags(0), "--data-dir="+t.TempDir(), "--cluster-listen="+freeAddress(t, "127.0.0.5"))...)
	if err == nil || !strings.Contains(out, `"n0", too`) {
		t.Errorf("another node with the name of one that runs: %v\n%s", err, out)
	}
	l.goOn("the one with a name that is taken does not start", 20)
	for i := range 3 {
		p.end(i, syscall.SIGKILL)
		l.goOn(fmt.Sprint("node ", i, " is dead"), 20)
		p.start(i)
		l.goOn(fmt.Sprint("node ", i, " is back"), 20)
	}
	l.finish()
}

// All of three nodes are killed at once, in mid-publish, and started again: what was acknowledged is on the disks of most, and everyone recovers.
func TestAllProcessesKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes")
	}
	t.Parallel() // most of it is the servers' elections
	p := startPond(t, 3)
	l := startLoad(t, p, 6)
	rounds := 1
	if long() {
		rounds = 10
	}
	for range rounds {
		l.goOn("they are there", 20)
		p.killAll()
		p.startAll()
	}
	l.goOn("they are back", 20)
	l.finish()
}

// What hosts leave behind that lose their power: of one the others have what may be missing, and nobody notices; of all at once the newest publications may be lost, and
// every client is told, for what comes next may have the numbers of what is gone.
func TestPowerLost(t *testing.T) {
	if !long() {
		t.Skip("MILLPOND_LONG_FAULTS is not set")
	}
	t.Parallel() // most of it is the servers' elections
	p := startPond(t, 3)
	l := startLoad(t, p, 6)
	for _, f := range l.followers {
		f.mayReset = true
	}
	loses := func(i int) {
		path := filepath.Join(p.dirs[i], "nats", "identity")
		var id map[string]json.RawMessage // a number of it is larger than JavaScript's
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, &id)
		}
		if err == nil {
			id["boot"] = json.RawMessage(`"another"`)
			b, err = json.Marshal(id)
		}
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	l.goOn("all are there", 20)
	p.end(0, syscall.SIGKILL)
	loses(0)
	p.start(0)
	l.goOn("one has lost its power", 20)
	for i, f := range l.followers {
		if n := f.told.Load(); n > 0 {
			t.Errorf("client %d was told %d times that something is missing, which most servers have", i, n)
		}
	}
	p.killAll()
	for i := range p.nodes {
		loses(i)
	}
	p.startAll()
	l.goOn("all have lost their power", 20)
	for i, f := range l.followers {
		if f.told.Load() == 0 {
			t.Errorf("client %d was not told that something may be missing", i)
		}
	}
	l.finish()
}

// A rolling restart under load, and a node that stands still: likewise.
func TestRollingRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes")
	}
	t.Parallel() // most of it is the servers' elections
	p := startPond(t, 3)
	l := startLoad(t, p, 6)
	l.goOn("all are there", 20)
	for i := range 3 {
		if code := p.end(i, syscall.SIGTERM); code != 0 {
			t.Errorf("node %d ended with code %d", i, code)
		}
		p.start(i)
		l.goOn(fmt.Sprint("node ", i, " is restarted"), 20)
	}
	still := p.at(0)
	if err := still.command.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	before := l.acked[1].Load()
	eventually(t, "the others go on without the one that stands still", func() bool {
		return l.acked[1].Load() > before+20 || l.acked[2].Load() > before+20
	})
	if err := still.command.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	l.goOn("it goes on", 20)
	l.finish()
}

// One embedded node alone, killed in mid-publish and started again: what was acknowledged is there, positions hold.
func TestOneProcessKilled(t *testing.T) {
	p := &pond{t: t, nodes: make([]*process, 1), dirs: []string{filepath.Join(t.TempDir(), "data")}, config: historyFile(t)}
	start := func() {
		p.mu.Lock()
		p.nodes[0] = nil
		p.mu.Unlock()
		n := startProcess(t, "--dev", "--nats-embedded", "--data-dir="+p.dirs[0], "--nats-store-bytes=67108864", "--nats-groups=4", "--config="+p.config, "--max-recovered=1000")
		p.mu.Lock()
		defer p.mu.Unlock()
		p.nodes[0] = n
	}
	start()
	l := startLoad(t, p, 4)
	for range 3 {
		l.goOn("it is there", 50)
		p.end(0, syscall.SIGKILL)
		start()
	}
	l.goOn("it is back", 50)
	l.finish()
}
