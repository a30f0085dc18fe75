package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gonats "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"
)

// A storage that fails again and again is tried less and less often, one that was well for a while at once.
func TestPace(t *testing.T) {
	const s, ms, well = time.Second, time.Millisecond, steadyAfter + time.Second
	for _, c := range []struct {
		name  string
		takes time.Duration   // a restart
		well  []time.Duration // before each failure
		want  []time.Duration // for which the restart has to wait
	}{
		{"at once", 0, make([]time.Duration, 8), []time.Duration{0, s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s}},
		{"slow restarts", time.Minute, make([]time.Duration, 4), []time.Duration{0, s, 2 * s, 4 * s}},
		{"after a while", 0, []time.Duration{0, 1500 * ms, 1500 * ms, 1500 * ms}, []time.Duration{0, 0, 500 * ms, 2500 * ms}},
		{"well", 0, []time.Duration{0, 0, 0, well, 0, 0, well}, []time.Duration{0, s, 2 * s, 0, s, 2 * s, 0}},
	} {
		var p pace
		var got []time.Duration
		now := time.Unix(1, 0)
		for _, well := range c.well {
			now = now.Add(well)
			left := p.left(now)
			got = append(got, left)
			began := now.Add(left)
			now = began.Add(c.takes)
			p.tried(began, now)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// The kernel lets no file grow any more: the server is restarted, fails again, and is restarted later; between, and as
// long as it fails, nobody is told that something was stored which was not. It runs in a process of its own, for the
// limit is the whole process's.
func TestDiskThatFailsAgain(t *testing.T) {
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), "MILLPOND_TEST_FAILING_DISK="+t.TempDir())
	out, err := command.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "all is well") {
		t.Fatalf("%v: %s", err, out)
	}
}

// moments are those at which something was logged.
type moments struct {
	mu   sync.Mutex
	list []time.Time
}

func (m *moments) Write(line []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if strings.Contains(string(line), "is restarted") {
		m.list = append(m.list, time.Now())
	}
	return len(line), nil
}

func (m *moments) all() []time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.list)
}

func failingDisk(dir string) {
	const restarts = 3
	signal.Ignore(syscall.SIGXFSZ)
	must := func(ok bool, format string, args ...any) {
		if !ok {
			fmt.Printf(format+"\n", args...)
			os.Exit(1)
		}
	}
	limit := func(bytes uint64) {
		err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY})
		must(err == nil, "setrlimit: %v", err)
	}
	var restarted moments
	s, err := Start(Config{Dir: dir, StoreBytes: 16 << 20, ReserveBytes: 1, Logger: slog.New(slog.NewTextHandler(&restarted, nil))})
	must(err == nil, "start: %v", err)
	conn, err := gonats.Connect("", gonats.InProcessServer(s), gonats.MaxReconnects(-1), gonats.ReconnectWait(10*time.Millisecond), gonats.ReconnectBufSize(-1))
	must(err == nil, "connect: %v", err)
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(500*time.Millisecond))
	must(err == nil, "jetstream: %v", err)
	_, err = js.CreateStream(context.Background(), jetstream.StreamConfig{Name: "s", Subjects: []string{"s"}})
	must(err == nil, "stream: %v", err)
	stored := uint64(0)
	publish := func() bool {
		ack, err := js.Publish(context.Background(), "s", make([]byte, 4096), jetstream.WithRetryAttempts(0))
		if err == nil {
			stored = ack.Sequence
		}
		return err == nil
	}
	must(publish(), "it cannot be published at first")
	limit(32 << 10)
	deadline := time.Now().Add(time.Minute)
	for len(restarted.all()) < restarts {
		publish()
		must(time.Now().Before(deadline), "restarted %d times in a minute", len(restarted.all()))
		<-time.After(time.Millisecond)
	}
	for i, at := range restarted.all()[1:] {
		pause := at.Sub(restarted.all()[i])
		must(pause >= shortestPause<<i, "restart %d came %v after the one before", i+1, pause)
	}
	limit(unix.RLIM_INFINITY)
	for !publish() || s.Trouble() != nil {
		must(time.Now().Before(deadline), "it does not go on")
		<-time.After(10 * time.Millisecond)
	}
	stream, err := js.Stream(context.Background(), "s")
	must(err == nil && stream.CachedInfo().State.LastSeq >= stored && stream.CachedInfo().State.FirstSeq == 1, "%d were stored, the log has %+v: %v", stored, stream, err)
	conn.Close()
	fmt.Println("all is well")
}
