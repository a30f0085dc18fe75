package watch

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Files that are written, replaced by another, or led to by a link that is turned are read again; those that say the same
// are not, and one that could not be loaded is tried again when it changes.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write("file", "1")
	write("a", "a")
	write("b", "b")
	must(os.Symlink("a", link))
	var loads atomic.Int64
	var bad atomic.Bool
	w, err := New(Config{Name: "files", Files: []string{path, link}, Logger: slog.New(slog.DiscardHandler), Reload: func() error {
		loads.Add(1)
		if bad.Load() {
			return errors.New("bad")
		}
		return nil
	}})
	must(err)
	defer func() { must(w.Close()) }()
	step := func(what string, change func()) {
		t.Helper()
		before := loads.Load()
		change()
		for end := time.Now().Add(20 * time.Second); loads.Load() == before; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: not loaded", what)
			}
		}
	}
	step("written", func() { write("file", "2") })
	step("replaced", func() { write("next", "3"); must(os.Rename(filepath.Join(dir, "next"), path)) })
	step("a link", func() { must(os.Symlink("b", link+"2")); must(os.Rename(link+"2", link)) })
	bad.Store(true)
	step("bad", func() { write("file", "bad") })
	bad.Store(false)
	step("good again", func() { write("file", "4") })
	n := loads.Load()
	write("file", "4")
	write("other", "x")
	step("the next", func() { write("file", "5") }) // what came before it has been looked at with it
	if got := loads.Load(); got != n+1 {
		t.Errorf("%d loads, want one", got-n)
	}
}
