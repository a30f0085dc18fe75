package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// This file has what may happen between the nodes of a cluster, and between a node and its broker.

// long reports whether the forms of these tests are wanted that take minutes: MILLPOND_LONG_FAULTS=1.
func long() bool { return os.Getenv("MILLPOND_LONG_FAULTS") != "" }

// startWired starts three nodes that reach each other only by wires.
func startWired(t *testing.T) *pond {
	t.Helper()
	p := newPond(t, 3)
	p.wires = map[[2]int]*wire{}
	for i := range p.nodes {
		for j := range p.nodes {
			if i != j {
				p.wires[[2]int{i, j}] = newWire(t, p.routes[j])
			}
		}
	}
	p.args = []string{"--nats-publish-timeout=2s", "--api-timeout=5s"}
	p.startAll()
	return p
}

// part does something to all wires of a node.
func (p *pond) part(node int, now way) {
	for pair, w := range p.wires {
		if pair[0] == node || pair[1] == node {
			w.set(now)
		}
	}
}

// isRefused publishes on a node, and reports whether that was refused with an error that says to try again.
func (l *load) isRefused(node *process) bool {
	l.t.Helper()
	err := l.call(node, `{"channels":["other0","other1"],"data":[0,0]}`)
	if err != nil && !strings.Contains(err.Error(), "unavailable") {
		l.t.Errorf("refused with %v, which says not why", err)
	}
	return err != nil
}

// numbers publishes the numbers from first on in a channel, so many at a time, until each is acknowledged.
func (l *load) numbers(node *process, channel string, first, n, each int) {
	l.t.Helper()
	for end := first + n; first < end; {
		var commands []string
		for i := first; i < min(end, first+each); i++ {
			commands = append(commands, fmt.Sprintf(`{"publish":{"channel":%q,"data":[0,%d],"idempotency_key":"n%d"}}`, channel, i, i))
		}
		response, err := http.Post("http://"+node.internal+"/api/batch", "application/json", strings.NewReader(`{"commands":[`+strings.Join(commands, ",")+`]}`))
		if err != nil {
			l.t.Fatal(err)
		}
		var answer struct{ Replies []struct{ Error *apiError } }
		err = json.NewDecoder(response.Body).Decode(&answer)
		_ = response.Body.Close()
		if err != nil || len(answer.Replies) != len(commands) {
			l.t.Fatalf("%d answers, %v", len(answer.Replies), err)
		}
		refused := false
		for _, r := range answer.Replies {
			switch {
			case r.Error == nil && refused:
				l.t.Fatal("a later one was acknowledged: this is another order")
			case r.Error == nil:
				first++
			case r.Error.Code == 114:
				refused = true
			default:
				l.t.Fatal(r.Error)
			}
		}
	}
}

// One of three nodes is cut off from the others, without a word and with its connections closed: it takes no publication, keeps its clients, and brings them
// everything when it is back; who missed more than is kept is told.
func TestPartition(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes")
	}
	t.Parallel() // most of it is waiting
	for _, c := range []struct {
		name string
		way  way
	}{{"silent", way{silent: true}}, {"cut", way{cut: true}}} {
		t.Run(c.name, func(t *testing.T) {
			if c.way.cut && !long() {
				t.Skip("MILLPOND_LONG_FAULTS is not set")
			}
			t.Parallel()
			p := startWired(t)
			l := startLoad(t, p, 6)
			const alone = 2
			brief := &tail{load: l, at: alone, channel: "brief:b", mayReset: true}
			l.running.Go(brief.run)
			eventually(t, "it follows", brief.subscribed.Load)
			l.numbers(p.at(0), brief.channel, 1, 5, 1)
			l.goOn("all are there", 20)
			eventually(t, "the short one has all", func() bool { return brief.last[0].Load() == 5 })

			p.part(alone, c.way)
			eventually(t, "nothing can be published on the node that is alone", func() bool { return l.isRefused(p.at(alone)) })
			before := l.acked[0].Load()
			eventually(t, "the others go on", func() bool { return l.acked[0].Load() > before+20 })
			// So many that not even the log has all.
			l.numbers(p.at(0), brief.channel, 6, 1, 1) // until there is somebody who leads the log
			l.numbers(p.at(0), brief.channel, 7, 1099, 100)
			if !l.isRefused(p.at(alone)) {
				t.Error("a node that is alone acknowledged a publication")
			}

			p.part(alone, way{})
			l.goOn("it is back", 20)
			number := 1105
			eventually(t, "the one that missed much goes on", func() bool {
				number++
				l.numbers(p.at(1), brief.channel, number, 1, 1) // what comes before it has subscribed again is not for it
				return brief.last[0].Load() >= int64(number-1)
			})
			t.Logf("it was told %d times that something is missing", brief.told.Load()) // not at all if its server had all, and handed it over in time
			if n := l.comeback.Load(); n > 0 {
				t.Errorf("%d clients lost their connection", n)
			}
			l.finish()
		})
	}
}

// All routes are slow: publications are, too, or are refused, and nothing is lost.
func TestSlowRoutes(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes")
	}
	t.Parallel() // most of it is waiting
	p := startWired(t)
	l := startLoad(t, p, 6)
	l.goOn("all are there", 20)
	for _, delay := range []time.Duration{20 * time.Millisecond, 200 * time.Millisecond} {
		for _, w := range p.wires {
			w.set(way{delay: delay})
		}
		l.goOn(fmt.Sprint("each piece takes ", delay), 5)
	}
	for _, w := range p.wires {
		w.set(way{})
	}
	l.goOn("they are fast again", 20)
	l.finish()
}

// mayMount skips the test where nobody may make a file system.
func mayMount(t *testing.T) {
	t.Helper()
	if err := exec.Command("unshare", "-Urm", "mount", "-t", "tmpfs", "none", t.TempDir()).Run(); err != nil {
		t.Skip("no file system can be mounted here: ", err)
	}
}

// onDisk is the command with a file system of its own of so many bytes at dir, which goes with the process.
func onDisk(command *exec.Cmd, dir string, size int64) *exec.Cmd {
	on := exec.Command("unshare", append([]string{
		"-Urm", "sh", "-c", `mkdir -p "$2" && mount -t tmpfs -o size=$1 none "$2" && shift 2 && exec "$@"`, "sh", fmt.Sprint(size), dir,
	}, command.Args...)...)
	on.Env = command.Env
	return on
}

// dirOf is where others see a directory of the process's own file system.
func (p *process) dirOf(dir string) string {
	return filepath.Join("/proc", fmt.Sprint(p.command.Process.Pid), "root", dir)
}

// startOnDisk starts one node, which has its data on a file system of its own of so many bytes, of which the test has the directory.
func startOnDisk(t *testing.T, size int64, args ...string) (p *pond, dir string) {
	t.Helper()
	mayMount(t)
	p = &pond{t: t, nodes: make([]*process, 1), config: historyFile(t)}
	dir = t.TempDir()
	p.nodes[0] = startCommand(t, onDisk(serveCommandLine(append([]string{
		"--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0", "--dev", "--nats-embedded", "--data-dir=" + dir, "--nats-groups=4",
		"--config=" + p.config, "--max-recovered=1000",
	}, args...)...), dir, size))
	return p, p.nodes[0].dirOf(dir)
}

// fill writes a file until so many bytes of its file system are left.
func fill(t *testing.T, path string, left int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for piece := make([]byte, 64<<10); len(piece) > 0; {
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		if int64(st.Bavail)*st.Bsize <= left {
			return
		}
		if _, err := f.Write(piece); errors.Is(err, unix.ENOSPC) {
			piece = piece[:len(piece)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// Something else fills the disk: publications are refused with that reason, nobody is disconnected, and it goes on when there is room, though the
// server of NATS may have been unable to write. Nothing that was acknowledged is lost.
func TestFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("processes")
	}
	t.Parallel() // some of it is waiting
	for _, c := range []struct {
		name          string
		reserve, left int64
		failed        bool
	}{{"the reserve is used", 16 << 20, 8 << 20, false}, {"nothing can be written", 1, 0, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, dir := startOnDisk(t, 128<<20, "--nats-store-bytes=33554432", fmt.Sprint("--nats-reserve-bytes=", c.reserve), "--nats-publish-timeout=2s")
			l := startLoad(t, p, 4)
			for _, f := range l.followers {
				f.mayReset = c.failed // it may have been told what could not be written
			}
			restarts := ""
			for round := 0; round < 2 || c.failed && restarts == ""; round++ {
				l.goOn("there is room", 20)
				fill(t, filepath.Join(dir, "filler"), c.left)
				eventually(t, "it is refused", func() bool {
					err := l.call(p.at(0), `{"channels":["other0","other1"],"data":[0,0]}`)
					return err != nil && strings.Contains(err.Error(), "disk of the log is full")
				})
				p.at(0).awaitMetric("millpond_broker_store_failed 1")
				if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
					t.Fatal(err)
				}
				p.at(0).awaitMetric("millpond_broker_store_failed 0")
				restarts = p.at(0).metric("millpond_broker_store_restarts_total") // none if nothing was about to be written
			}
			l.goOn("there is room again", 50)
			if n := l.comeback.Load(); n > 0 {
				t.Errorf("%d clients lost their connection", n)
			}
			l.finish()
		})
	}
}

// The disk of one of three nodes is full: the others go on, with its clients; when there is room it is one of those again that have what is published.
func TestFullDiskOfOne(t *testing.T) {
	if !long() {
		t.Skip("MILLPOND_LONG_FAULTS is not set")
	}
	mayMount(t)
	t.Parallel() // most of it is the servers' elections
	p := newPond(t, 3)
	const full = 2
	p.disks = map[int]int64{full: 128 << 20}
	p.args = []string{"--nats-store-bytes=33554432", "--nats-reserve-bytes=1", "--nats-publish-timeout=2s"}
	p.startAll()
	node, filler := p.at(full), filepath.Join(p.at(full).dirOf(p.dirs[full]), "filler")
	l := startLoad(t, p, 6)
	for range 3 { // of which one has a client read from the server that is behind, or more
		l.goOn("there is room", 20)
		fill(t, filler, 0)
		node.awaitMetric("millpond_broker_store_failed 1")
		l.goOn("the disk of one is full", 50)
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		node.awaitMetric("millpond_broker_store_failed 0")
		l.goOn("there is room again", 20)
	}
	if n := l.comeback.Load(); n > 0 {
		t.Errorf("%d clients lost their connection", n)
	}
	t.Log(node.metric("millpond_broker_store_restarts_total"), node.metric("millpond_broker_resets_total"))
	p.end(0, syscall.SIGKILL)
	l.goOn("another one is gone, and it counts", 20)
	p.start(0)
	l.goOn("all are back", 20)
	l.finish()
}

// The data of one of three nodes is damaged while it is down: it does not start, and says what to do; with an empty directory it takes all from the others, and counts again.
func TestDamagedDiskOfOne(t *testing.T) {
	if !long() {
		t.Skip("MILLPOND_LONG_FAULTS is not set")
	}
	t.Parallel() // most of it is the servers' elections
	p := startPond(t, 3)
	const damaged = 1
	l := startLoad(t, p, 6)
	l.goOn("all are there", 20)
	p.end(damaged, syscall.SIGTERM)
	blocks, err := filepath.Glob(filepath.Join(p.dirs[damaged], "nats/jetstream/jetstream/$G/streams/*/msgs/*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatal(blocks, err)
	}
	for _, path := range blocks {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 0 {
			b[len(b)/2] ^= 1
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := p.failing(p.flags(damaged)...)
	if err == nil || !strings.Contains(out, "is damaged") || !strings.Contains(out, "remove the directory") || !strings.Contains(out, filepath.Join(p.dirs[damaged], "nats")) {
		t.Errorf("with damaged data: %v\n%s", err, out)
	}
	l.goOn("it does not start", 20)
	if err := os.RemoveAll(filepath.Join(p.dirs[damaged], "nats")); err != nil { // what the error says
		t.Fatal(err)
	}
	p.start(damaged)
	l.goOn("it has taken all from the others", 20)
	p.end(0, syscall.SIGKILL)
	l.goOn("another one is gone, and it counts", 20)
	p.start(0)
	l.goOn("all are back", 20)
	l.finish()
}

// A node with another secret than the rest tries again and again, and does not fill the logs.
func TestWrongSecretDoesNotFillTheLog(t *testing.T) {
	if testing.Short() {
		t.Skip("two processes")
	}
	t.Parallel() // most of it is waiting
	p := newPond(t, 2)
	var nodes [2]*process
	var starting sync.WaitGroup
	for i := range nodes {
		secret := filepath.Join(t.TempDir(), "credentials")
		if err := os.WriteFile(secret, fmt.Append(nil, "user:", i), 0o600); err != nil {
			t.Fatal(err)
		}
		p.args = []string{"--cluster-credentials-file=" + secret, "--nats-start-timeout=1s", "--log-repeat-interval=1h"}
		flags := p.flags(i)
		starting.Go(func() { nodes[i] = startProcess(t, flags...) })
	}
	starting.Wait()
	for i, node := range nodes {
		eventually(t, "they go on trying", func() bool {
			n, _ := strconv.Atoi(strings.TrimPrefix(node.metric("millpond_log_repeats_total "), "millpond_log_repeats_total "))
			return n > 20
		})
		kinds := map[string]int{}
		node.mu.Lock()
		lines := node.lines
		node.mu.Unlock()
		for _, line := range lines {
			if strings.Contains(line, "uthoriz") || strings.Contains(line, "uthentic") {
				_, text, _ := strings.Cut(line, "rid:")
				kinds[strings.TrimLeft(text, "0123456789")]++
			}
		}
		for kind, n := range kinds {
			if n > 1 {
				t.Errorf("node %d: %d lines, for which one will do: %s", i, n, kind)
			}
		}
		if len(kinds) == 0 {
			t.Errorf("node %d says nothing", i)
		}
	}
}
