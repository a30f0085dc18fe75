package deploy

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// built is the program, as make build makes it, in a directory that TestMain removes.
var built struct {
	once      sync.Once
	directory string
	err       error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.directory != "" {
		_ = os.RemoveAll(built.directory)
	}
	os.Exit(code)
}

// millpond returns the path of the program.
func millpond(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.directory, built.err = os.MkdirTemp("", "millpond-deploy"); built.err == nil {
			built.err = build(built.directory, "..")
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.directory, "millpond")
}

const testVersion = "v0.0.0-test"

// build makes the program of a checkout in a directory, by the Makefile.
func build(directory, checkout string) error {
	command := exec.Command("make", "-s", "-C", checkout, "build", "BIN="+directory, "VERSION="+testVersion)
	command.Env = append(os.Environ(), "GOFLAGS=")
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("make build: %w\n%s", err, out)
	}
	return nil
}

// makeTarget makes a target of this checkout's Makefile.
func makeTarget(t *testing.T, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "make", append([]string{"-s", "-C", ".."}, args...)...)
	command.Env = append(os.Environ(), "GOFLAGS=")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("make %v: %v\n%s", args, err, out)
	}
}

// sources is a checkout without what is made in it.
type sources struct{ fs.ReadLinkFS }

func (s sources) ReadDir(name string) (list []fs.DirEntry, err error) {
	list, err = fs.ReadDir(s.ReadLinkFS, name)
	return slices.DeleteFunc(list, func(e fs.DirEntry) bool {
		return e.Name() == "node_modules" || name == "." && slices.Contains([]string{".git", "bin", "build"}, e.Name())
	}), err
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// replace replaces what is in text, and must be.
func replace(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("there is no %q in\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// server is a millpond that runs.
type server struct {
	t       *testing.T
	command *exec.Cmd
	public  string
	log     sync.WaitGroup
}

// serve starts the program, and waits until it listens.
func serve(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{t: t, command: exec.Command(millpond(t), args...)}
	stderr, err := s.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.command.Process.Kill() })
	listening := regexp.MustCompile(`msg=listening listener=(\w+) address=(\S+)`)
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		t.Log(lines.Text())
		m := listening.FindStringSubmatch(lines.Text())
		if m != nil && m[1] == "public" {
			s.public = m[2]
		} else if m != nil { // the last one
			s.log.Go(func() {
				for lines.Scan() {
					t.Log(lines.Text())
				}
			})
			return s
		}
	}
	t.Fatalf("%v does not listen", args)
	return nil
}

// wait returns the exit code.
func (s *server) wait() int {
	timer := time.AfterFunc(time.Minute, func() { _ = s.command.Process.Kill() })
	defer timer.Stop()
	s.log.Wait()
	_ = s.command.Wait()
	return s.command.ProcessState.ExitCode()
}

func (s *server) stop() {
	s.t.Helper()
	_ = s.command.Process.Signal(syscall.SIGTERM)
	if code := s.wait(); code != 0 {
		s.t.Errorf("exit code %d", code)
	}
}
