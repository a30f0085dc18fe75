package logs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// buffer is one that a timer's goroutine writes.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// take returns what was written since the last time.
func (b *buffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.b.Reset()
	return b.b.String()
}

// Of lines that say the same the first is written, and then one in an interval, which says how many there were.
func TestRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out buffer
		r := NewRepeats(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), time.Minute)
		log := r.Logger().With("node", "a")
		wrote := func(want ...string) {
			t.Helper()
			synctest.Wait()
			got := strings.Split(strings.TrimSuffix(out.take(), "\n"), "\n")
			if len(want) == 0 {
				want = []string{""}
			}
			for i := range got {
				_, got[i], _ = strings.Cut(got[i], " ")
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("wrote %q, and not %q", got, want)
			}
		}
		for i := range 3 {
			log.Error("route", "error", fmt.Errorf("10.0.0.%d:4%d refused", i, i*1000))
		}
		log.Error("route", "error", errors.New("another"))
		log.Warn("route", "error", errors.New("another"))
		wrote(`level=ERROR msg=route node=a error="10.0.0.0:40 refused"`, `level=ERROR msg=route node=a error=another`, `level=WARN msg=route node=a error=another`)
		for range 2 {
			log.Debug("for debugging")
		}
		wrote(`level=DEBUG msg="for debugging" node=a`, `level=DEBUG msg="for debugging" node=a`)
		time.Sleep(time.Minute)
		wrote(`level=ERROR msg=route node=a error="10.0.0.2:42000 refused" repeated=2`)
		time.Sleep(time.Minute)
		wrote()
		log.Error("route", "error", errors.New("10.0.0.1:1 refused"))
		wrote(`level=ERROR msg=route node=a error="10.0.0.1:1 refused"`)
		time.Sleep(time.Second / 2)
		for range 120 {
			time.Sleep(time.Second)
			log.Error("route", "error", errors.New("10.0.0.1:1 refused"))
		}
		synctest.Wait()
		text := out.take()
		if n := strings.Count(text, "\n"); n != 2 || r.Counted() != 1+58+59 { // of 3, 59 and 60 after the first
			t.Errorf("%d lines in two intervals, %d counted: %s", n, r.Counted(), text)
		}
		log.Error("route", "error", errors.New("10.0.0.9:1 refused"))
		r.Close()
		if text := out.take(); !strings.Contains(text, "10.0.0.9:1") {
			t.Errorf("what waited is lost: %q", text)
		}
		log.Error("closed")
		log.Error("closed")
		wrote(`level=ERROR msg=closed node=a`, `level=ERROR msg=closed node=a`)
	})
}

// However many kinds there are, they do not fill memory, nor the log.
func TestRepeatsOfManyKinds(t *testing.T) {
	var out bytes.Buffer
	r := NewRepeats(slog.New(slog.NewTextHandler(&out, nil)), time.Hour)
	for i := range 10 * maxKinds {
		r.Logger().Error(strings.Repeat("x", i))
	}
	if n := strings.Count(out.String(), "\n"); n != maxKinds+1 || len(r.kinds) != maxKinds+1 {
		t.Errorf("%d lines of %d kinds", n, len(r.kinds))
	}
	out.Reset()
	r.Logger().Warn("of another level")
	if !strings.Contains(out.String(), "of another level") || len(r.kinds) != maxKinds+2 {
		t.Errorf("%q, %d kinds", out.String(), len(r.kinds))
	}
	r.Close()
}

// A negative interval leaves all as it is.
func TestNoRepeats(t *testing.T) {
	var out bytes.Buffer
	r := NewRepeats(slog.New(slog.NewTextHandler(&out, nil)), -1)
	for range 10 {
		r.Logger().Error("x")
	}
	if n := strings.Count(out.String(), "\n"); n != 10 {
		t.Errorf("%d lines", n)
	}
	r.Close()
}
