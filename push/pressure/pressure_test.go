package pressure

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

const mib = 1 << 20

// host is a directory with files like those of /proc and /sys, of a group of version 2.
type host struct {
	t   *testing.T
	dir string
}

func newHost(t *testing.T) *host {
	h := &host{t, t.TempDir()}
	h.write("proc/self/cgroup", "0::/\n")
	h.write("proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	h.resident(0)
	return h
}

func (h *host) write(name, content string) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) resident(bytes int) {
	h.write("proc/self/statm", fmt.Sprintf("9999999 %d 1 1 0 1 0\n", bytes/os.Getpagesize()))
}

func (h *host) group(limit string, used, files int) {
	h.write("sys/fs/cgroup/memory.max", limit+"\n")
	h.write("sys/fs/cgroup/memory.current", fmt.Sprintln(used))
	h.write("sys/fs/cgroup/memory.stat", fmt.Sprintf("anon 1\nfile %d\ninactive_file %d\nactive_file %d\n", files, files/2, files-files/2))
}

func (h *host) watch(c Config) *Watch {
	h.t.Helper()
	w, err := newWatch(c, os.DirFS(h.dir))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(w.Close)
	return w
}

func TestLevel(t *testing.T) {
	for _, tt := range []struct {
		name            string
		config          Config
		resident        int
		limit           string
		current, cached int
		want            Level
	}{
		{"no limit", Config{}, 1 << 40, "max", 1 << 40, 0, None},
		{"process below", Config{LimitBytes: 100 * mib}, 89 * mib, "max", 0, 0, None},
		{"process high", Config{LimitBytes: 100 * mib}, 91 * mib, "max", 0, 0, High},
		{"process severe", Config{LimitBytes: 100 * mib}, 96 * mib, "max", 0, 0, Severe},
		{"group below", Config{}, 0, "104857600", 89 * mib, 0, None},
		{"group high", Config{}, 0, "104857600", 91 * mib, 0, High},
		{"group severe", Config{}, 0, "104857600", 96 * mib, 0, Severe},
		{"group full of files", Config{}, 0, "104857600", 99 * mib, 20 * mib, None},
		{"the worse of both", Config{LimitBytes: 100 * mib}, 91 * mib, "104857600", 96 * mib, 0, Severe},
		{"another mark", Config{LimitBytes: 100 * mib, HighWater: 0.5}, 60 * mib, "max", 0, 0, High},
		{"switched off", Config{LimitBytes: -1}, 1 << 40, "104857600", 99 * mib, 0, None},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			h.resident(tt.resident)
			h.group(tt.limit, tt.current, tt.cached)
			w := h.watch(tt.config)
			if got := w.Level(); got != tt.want {
				t.Errorf("Level: %v, want %v; %+v", got, tt.want, w.Readings())
			}
		})
	}
}

// Level follows what is there; what cannot be read stays as it was, and limits that change are followed.
func TestLevelFollows(t *testing.T) {
	h := newHost(t)
	h.group("104857600", 10*mib, 0)
	w := h.watch(Config{})
	await := func(want Level) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); w.Level() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("Level: %v, never %v", w.Level(), want)
			}
		}
	}
	await(None)
	h.group("104857600", 92*mib, 0)
	await(High)
	h.write("sys/fs/cgroup/memory.current", "")
	w.look()
	if got := w.Level(); got != High {
		t.Errorf("Level of an empty file: %v", got)
	}
	h.group("209715200", 92*mib, 0)
	w.Tick(time.Now())
	await(None)
}

// The operator hears of it once a minute, and when it is over.
func TestTell(t *testing.T) {
	var log bytes.Buffer
	h := newHost(t)
	h.resident(95 * mib)
	w := h.watch(Config{LimitBytes: 100 * mib, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	now := time.Now()
	for range 100 {
		w.Tick(now)
		now = now.Add(time.Second)
	}
	if n := strings.Count(log.String(), "memory is short"); n != 2 {
		t.Errorf("told %d times in 100 seconds\n%s", n, &log)
	}
	h.resident(10 * mib)
	for range 100 {
		w.Tick(now)
		now = now.Add(time.Second)
	}
	if n := strings.Count(log.String(), "memory is enough again"); n != 1 {
		t.Errorf("the end was told %d times\n%s", n, &log)
	}
}

// Go's limit is what the others leave, and its own again at the end.
func TestTuneGo(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	h := newHost(t)
	h.group("1073741824", 300*mib, 0)
	w, err := newWatch(Config{TuneGo: true}, os.DirFS(h.dir))
	if err != nil {
		t.Fatal(err)
	}
	w.Tick(time.Now())
	first := debug.SetMemoryLimit(-1)
	if most := int64(973 * mib); first >= most || first < most-300*mib {
		t.Errorf("with 300 MiB of 1 GiB taken, in part by Go: %d", first)
	}
	h.group("1073741824", 600*mib, 0)
	w.Tick(time.Now())
	if second := debug.SetMemoryLimit(-1); first-second < 250*mib {
		t.Errorf("300 MiB more of the kernel's take only %d off Go's limit", first-second)
	}
	h.group("1073741824", 1000*mib, 0)
	w.Tick(time.Now())
	if third := debug.SetMemoryLimit(-1); third != 256*mib {
		t.Errorf("what is always left to Go: %d", third)
	}
	w.Close()
	if after := debug.SetMemoryLimit(-1); after != before || before != math.MaxInt64 {
		t.Errorf("afterwards %d, before %d", after, before)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []Config{{LimitBytes: 1}, {HighWater: 1}, {HighWater: -0.1}, {HighWater: math.NaN()}} {
		if c.Validate() == nil {
			t.Errorf("%+v is valid", c)
		}
		if _, err := New(c); err == nil {
			t.Errorf("%+v is watched", c)
		}
	}
}

// What this machine says can be read.
func TestHere(t *testing.T) {
	w, err := New(Config{LimitBytes: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	if r := w.Readings(); len(r) == 0 || r[0].Used < mib {
		t.Errorf("%+v", r)
	}
}
