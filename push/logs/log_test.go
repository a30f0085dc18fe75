package logs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, c Config) *Log {
	t.Helper()
	c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeLog(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

// hostile are strings with which users would like to end a line, begin another, or move a terminal's cursor.
var hostile = []string{
	"ann\ntime=2000-01-01 msg=audit action=forged", "ann\r\nmsg=forged", "\x1b[2J\x1b[1;1Hforged", "a\x00b", "ann outcome=ok", `ann" outcome="ok`,
	"\u2028{\"msg\":\"forged\"}", "\u0085forged", "\u009b2J", "\u202egnp.exe", "\x7f\x7f", "\xff\xfe", "", strings.Repeat("long", 4000), strings.Repeat("ü", 4000),
}

// quoted is a value of the text format that is not just a word.
var quoted = regexp.MustCompile(`"(\\.|[^"\\])*"`)

func TestNobodyForgesALine(t *testing.T) {
	for _, isJSON := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "audit")
		l := open(t, Config{Path: path, JSON: isJSON})
		for _, s := range hostile {
			l.Audit(Act{Action: s, Key: s, Remote: s, Request: s, Outcome: s, Target: []slog.Attr{slog.String("user", s)}})
		}
		closeLog(t, l)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range string(b) {
			if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x202e) {
				t.Errorf("json %t: there is %U in the log", isJSON, r)
			}
		}
		lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
		if len(lines) != len(hostile) {
			t.Fatalf("json %t: %d lines, want %d", isJSON, len(lines), len(hostile))
		}
		for i, line := range lines {
			if len(line) > 6*(5*maxValue)+1024 {
				t.Errorf("line %d has %d bytes", i, len(line))
			}
			if !isJSON {
				if bare := quoted.ReplaceAllString(line, ""); !strings.HasPrefix(bare, "time=") || strings.Count(bare, "=") != 9 || strings.Count(bare, " msg=audit ") != 1 {
					t.Errorf("line %q", line)
				}
				continue
			}
			var record struct {
				Msg, Action string
				Target      struct{ User *string }
			}
			if err := json.Unmarshal([]byte(line), &record); err != nil || record.Msg != "audit" || record.Target.User == nil || *record.Target.User != record.Action {
				t.Errorf("line %q: %v", line, err)
			}
		}
	}
}

func TestReopenFollowsTheName(t *testing.T) {
	dir := t.TempDir()
	path, rotated := filepath.Join(dir, "audit"), filepath.Join(dir, "audit.1")
	l := open(t, Config{Path: path})
	l.Line("before")
	eventually(t, "the first line", func() bool { return l.Stats().Written == 1 })
	if err := os.Rename(path, rotated); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	l.Line("after")
	closeLog(t, l)
	for file, want := range map[string]string{path: "msg=after", rotated: "msg=before"} {
		if b, err := os.ReadFile(file); err != nil || strings.Count(string(b), "\n") != 1 || !strings.Contains(string(b), want) {
			t.Errorf("%s: %q, %v", file, b, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// /dev/full is a disk without room.
func TestAFullDiskIsCounted(t *testing.T) {
	var said bytes.Buffer
	l, err := Open(Config{Path: "/dev/full", Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		l.Line("lost")
		eventually(t, "a failure", func() bool { return l.Stats().Failed == int64(i+1) })
	}
	closeLog(t, l)
	if n := strings.Count(said.String(), "lines are lost"); n != 1 || l.Stats().Written != 0 {
		t.Errorf("said %d times; %+v", n, l.Stats())
	}
}

// A pipe that is not read is a disk that takes its time: nobody waits for it, and what does not fit is counted.
func TestASlowDiskHoldsUpNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Path: path}); err == nil {
		t.Fatal("a pipe without a reader was opened")
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	l := open(t, Config{Path: path})
	sent := int64(0)
	for ; l.Stats().Dropped == 0; sent++ {
		l.Line("line", slog.String("padding", strings.Repeat("x", 400)))
	}
	lines := make(chan string)
	go func() {
		in := bufio.NewScanner(reader)
		for in.Scan() {
			lines <- in.Text()
		}
		close(lines)
	}()
	closed := make(chan error, 1)
	go func() { closed <- l.Close(t.Context()) }()
	for range sent - l.Stats().Dropped {
		if line := <-lines; !strings.Contains(line, "msg=line") {
			t.Fatalf("line %q", line)
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if st := l.Stats(); st.Written+st.Dropped != sent || st.Failed != 0 {
		t.Errorf("%+v, sent %d", st, sent)
	}
	reader.Close()
	for range lines {
	}
}

func TestNoLog(t *testing.T) {
	for _, path := range []string{"", Off} {
		l, err := Open(Config{Path: path})
		if l != nil || err != nil {
			t.Errorf("%q: %v, %v", path, l, err)
		}
		l.Audit(Act{})
		if l.Reopen() != nil || l.Close(t.Context()) != nil || l.Stats() != (Stats{}) {
			t.Error("a nil log does something")
		}
	}
	if _, err := Open(Config{Path: "/nowhere/at/all"}); err == nil {
		t.Error("a directory that is not there")
	}
}
