package files

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	sparse := write(t, filepath.Join(dir, "sparse"), "")
	loop := filepath.Join(dir, "loop")
	for _, err := range []error{os.Truncate(sparse, 10<<30), os.Symlink(loop, loop)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, path, want, wrong string
		checked                 bool // that it cannot be read is known before
	}{
		{"a file", write(t, filepath.Join(dir, "file"), " a\n"), " a\n", "", false},
		{"nothing in it", write(t, filepath.Join(dir, "empty"), ""), "", "", false},
		{"as much as may be", write(t, filepath.Join(dir, "full"), strings.Repeat("a", 100)), strings.Repeat("a", 100), "", false},
		{"more", write(t, filepath.Join(dir, "more"), strings.Repeat("a", 101)), "", "has more than 100 bytes", true},
		{"ten gigabytes", sparse, "", "has more than 100 bytes", true},
		{"a device without end", "/dev/zero", "", "has more than 100 bytes", false},
		{"a device with nothing", "/dev/null", "", "is empty", false},
		{"a file that knows no size", "/proc/self/limits", "", "has more than 100 bytes", false},
		{"a small one", "/proc/self/comm", "files.test\n", "", false},
		{"a directory", dir, "", "is a directory", true},
		{"a link to itself", loop, "", "too many levels of symbolic links", true},
		{"no file", filepath.Join(dir, "none"), "", "no such file", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := Check(tt.path, 100); tt.checked != (err != nil) || err != nil && !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("checked: %v", err)
			}
			b, err := Read(tt.path, 100)
			if string(b) != tt.want || (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

// What a pipe has is read whole, whether its writer was there first, comes later, takes its time, or is gone already; nobody waits for ever.
func TestReadPipe(t *testing.T) {
	writer := func(t *testing.T, path string, parts ...string) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			f, _ := os.OpenFile(path, os.O_WRONLY, 0) // which waits for the reader
			for _, part := range parts {
				_, _ = io.WriteString(f, part)
			}
			_ = f.Close()
		}()
		t.Cleanup(func() { <-done })
	}
	t.Run("a writer that waits", func(t *testing.T) {
		path := fifo(t)
		writer(t, path, strings.Repeat("a", 1<<16), strings.Repeat("b", 1<<16))
		if b, err := Read(path, 1<<20); len(b) != 1<<17 || err != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	})
	t.Run("a writer that comes later", func(t *testing.T) {
		path := fifo(t)
		got := make(chan string)
		go func() {
			b, err := Read(path, 100)
			got <- string(b)
			if err != nil {
				t.Error(err)
			}
		}()
		f, err := os.OpenFile(path, os.O_WRONLY, 0) // which waits for the reader
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(f, "secret")
		_ = f.Close()
		if s := <-got; s != "secret" {
			t.Errorf("%q", s)
		}
	})
	t.Run("without end", func(t *testing.T) {
		path := fifo(t)
		writer(t, path, strings.Repeat("a", 1000))
		if b, err := Read(path, 100); err == nil || !strings.Contains(err.Error(), "has more than 100 bytes") {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("it is checked first", func(t *testing.T) {
		path := fifo(t)
		writer(t, path, "secret")
		if err := Check(path, 100); err != nil {
			t.Error(err)
		}
		if b, err := Read(path, 100); string(b) != "secret" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("nobody writes", func(t *testing.T) {
		if b, err := read(fifo(t), 100, 10*time.Millisecond); err == nil || !strings.Contains(err.Error(), "nobody wrote all of it") {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("a writer that does not end", func(t *testing.T) {
		path := fifo(t)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, _ = io.WriteString(f, "sec")
		if b, err := read(path, 100, 10*time.Millisecond); err == nil || !strings.Contains(err.Error(), "nobody wrote all of it") {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("a substitution of the shell", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		_, _ = io.WriteString(w, "secret")
		_ = w.Close()
		// As bash does: another process finds the pipe below /dev/fd.
		c := exec.Command(os.Args[0], "-test.run=^TestReadInherited$")
		c.Env, c.ExtraFiles = append(os.Environ(), "MILLPOND_TEST_INHERITED=/dev/fd/3"), []*os.File{r}
		if b, err := c.CombinedOutput(); err != nil || !strings.Contains(string(b), `first "secret" <nil>`) || !strings.Contains(string(b), "can be read once") {
			t.Errorf("%s, %v", b, err)
		}
	})
}

// TestReadInherited is the other process of TestReadPipe.
func TestReadInherited(t *testing.T) {
	path := os.Getenv("MILLPOND_TEST_INHERITED")
	if path == "" {
		t.Skip("it is run by TestReadPipe")
	}
	b, err := Read(path, 100)
	println("first", quote(string(b)), errorText(err))
	_, err = Read(path, 100)
	println("then", errorText(err))
}

func quote(s string) string { return `"` + s + `"` }

func errorText(err error) string {
	if err == nil {
		return "<nil>"
	}
	return err.Error()
}

func TestSecret(t *testing.T) {
	dir := t.TempDir()
	if b, err := Secret(write(t, filepath.Join(dir, "secret"), "\n s e \r\n")); string(b) != "s e" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	for path, want := range map[string]string{
		write(t, filepath.Join(dir, "blank"), " \n"):                                 "is empty",
		write(t, filepath.Join(dir, "large"), strings.Repeat("a", MaxSecretBytes+1)): "more than 1048576 bytes",
	} {
		if b, err := Secret(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
}

// A file is exposed if its mode lets others read it and each directory lets them pass; the link that leads to it does not matter.
func TestExposed(t *testing.T) {
	for name, tt := range map[string]struct {
		dir, file os.FileMode
		want      bool
	}{
		"open":                 {0o755, 0o644, true},
		"of its owner":         {0o755, 0o600, false},
		"of a group":           {0o755, 0o640, false},
		"behind a closed door": {0o700, 0o644, false},
	} {
		t.Run(name, func(t *testing.T) {
			top, err := os.MkdirTemp("/tmp", "millpond-exposed-") // t.TempDir may be below a directory that is closed
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(top)
			dir, link := filepath.Join(top, "dir"), filepath.Join(top, "link")
			path := filepath.Join(dir, "secret")
			for _, err := range []error{
				os.Mkdir(dir, 0o700), os.WriteFile(path, nil, 0o600), os.Chmod(path, tt.file), os.Chmod(dir, tt.dir), os.Chmod(top, 0o755), os.Symlink(path, link),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			if Exposed(path) != tt.want || Exposed(link) != tt.want {
				t.Errorf("exposed: %t, by the link: %t", Exposed(path), Exposed(link))
			}
		})
	}
	if Exposed("/dev/null") || Exposed("/missing") {
		t.Error("what is no file is exposed")
	}
}
