package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/alecthomas/kong"
)

// These tests read the project's documents as a user does: they run the commands, follow the links, and look for the flags and metrics.

const root = "../.."

// documents are the paths of all of them, from the root.
func documents(t *testing.T) (list []string) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "deploy/*.md", "deploy/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			list = append(list, strings.TrimPrefix(path, root+"/"))
		}
	}
	if len(list) < 20 {
		t.Fatalf("only %d documents: %v", len(list), list)
	}
	return list
}

// block is what a document shows indented or between fences.
type block struct {
	document, language, text string
	line                     int
}

// firstLine names a block in the tables below.
func (b *block) firstLine() string {
	line, _, _ := strings.Cut(b.text, "\n")
	return strings.TrimSpace(line)
}

// commands reports whether b is for a shell.
func (b *block) commands() bool {
	switch b.language {
	case "sh", "bash":
		return true
	case "":
		return startsCommand.MatchString(b.firstLine())
	}
	return false
}

var startsCommand = regexp.MustCompile(`^(#|(bin/)?millpond|curl|make|openssl|npm|cat|head|printf|cd|install|websocat|produce|sudo|systemctl|docker|helm|apt|git|promtool|tshark|sysctl|MILLPOND_\w+=)( |$)`)

// split returns a document's blocks, and its text without them.
func split(t *testing.T, document string) (blocks []block, text string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, document))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for i := 0; i < len(lines); i++ {
		begin := i
		switch {
		case strings.HasPrefix(lines[i], "```"):
			for i++; i < len(lines) && !strings.HasPrefix(lines[i], "```"); i++ {
			}
			if i == len(lines) {
				t.Fatalf("%s:%d: a fence without an end", document, begin+1)
			}
			blocks = append(blocks, block{document, strings.TrimPrefix(lines[begin], "```"), strings.Join(lines[begin+1:i], "\n"), begin + 2})
		case strings.HasPrefix(lines[i], "    ") && i > 0 && lines[i-1] == "":
			var code []string
			for ; i < len(lines) && (strings.HasPrefix(lines[i], "    ") || lines[i] == ""); i++ {
				code = append(code, strings.TrimPrefix(lines[i], "    "))
			}
			i--
			blocks = append(blocks, block{document, "", strings.TrimSpace(strings.Join(code, "\n")), begin + 1})
		default:
			text += lines[i] + "\n"
		}
	}
	return blocks, text
}

// notRun says of blocks, by document and beginning, why they are not run here. What they say is checked by what is named.
var notRun = map[string]map[string]string{
	"README.md":            {"make run": "make test is what runs this"},
	"CONTRIBUTING.md":      {"make run": "make test and make check are what runs this"},
	"deploy/README.md":     {"*": "needs root and systemd; the tests of deploy check the files"},
	"docs/architecture.md": {"make generate": "TestReference and TestSchema hold what it writes", "make build": "make test is what runs this"},
	"docs/bench.md":        {"millpond bench idle --url ws://10.0.0.5": "another host", "millpond bench idle --url ws://127.0.0.1:8000/connection": "a Centrifugo", "# An echo of one's own.": "other servers"},
	"docs/brokers.md":      {"printf 'millpond:%s'": "three hosts; the tests of push/broker/nats have three servers"},
	"docs/million.md":      {"make million": "half an hour; bench/million tests it"},
	"docs/recovery.md":     {"bin/millpond bench recover": "a minute; the tests of bench run it smaller"},
	"docs/operating.md":    {"millpond config check --config millpond.yaml": "wants systemd; TestReloadSettings sends the signal"},
	"docs/quickstart.md":   {"npm install centrifuge": "from the registry; internal/sdk has it and runs it"},
	"docs/tap.md":          {"millpond tap --user ada --write ada.pcapng": "wants Wireshark's window; the tests of push/tap run tshark"},
	"docs/webhooks.md":     {"cd docs/examples/webhooks": "the tests of docs/examples/webhooks run it", "websocat": "Debian has no websocat; push/webhook_test.go says the same"},
	"docs/queue.md":        {"millpond serve --nats-url": "another host; the tests of push and cmd/millpond have servers of NATS"},
}

// codes are exit codes other than 0 that are as good, by the block's first line.
var codes = map[string]string{
	"bin/millpond doctor --connections 100000": "1: this machine may be too small",
	"bin/millpond bench compare before.json":   "3: reports are different",
}

func (b *block) reasonNotToRun() (key, reason string) {
	for beginning, reason := range notRun[b.document] {
		if beginning == "*" || strings.HasPrefix(b.firstLine(), beginning) {
			return beginning, reason
		}
	}
	return "", ""
}

// millpondScript runs the program. What does not end by itself is left running, once it is ready.
const millpondScript = `#!/bin/bash
export MILLPOND_TEST_PROCESS=1
case "$1" in
serve) export MILLPOND_LISTEN=127.0.0.1:@PUBLIC MILLPOND_INTERNAL_LISTEN=127.0.0.1:@INTERNAL MILLPOND_DRAIN_GRACE=0s ;;
publish|tap) set -- --url=http://127.0.0.1:@INTERNAL "$@"; set -- "$2" "$1" "${@:3}" ;;
subscribe) set -- --url=ws://127.0.0.1:@PUBLIC "$@"; set -- "$2" "$1" "${@:3}" ;;
bench) export MILLPOND_TEST_PROCESS=tree; [ "$2" = compare ] || set -- "$@" --connections=20 --duration=500ms ;;
esac
case "$*" in tap*--duration*) exec @BINARY "$@" ;; serve*|tap*|subscribe*) ;; *) exec @BINARY "$@" ;; esac
log=$PWD/log.$1.$$
( @BINARY "$@" >"$log" 2>&1 & echo $! >>@DIR/pids; >@DIR/started.$$; wait $!; echo "$* $?" >>@DIR/codes; >@DIR/ended.$$ ) >/dev/null 2>&1 &
while [ ! -e @DIR/started.$$ ]; do sleep 0.01; done
while [ "$1" = serve ] && ! grep -q listener=internal "$log"; do
	if [ -e @DIR/ended.$$ ]; then cat "$log" >&2; exit 1; fi
	sleep 0.05
done
`

// Each block of commands of all documents is run in a directory of its own, beside a server in development mode if it starts none
// itself, or has a reason above why it is not.
func TestCommandsOfDocuments(t *testing.T) {
	if raceEnabled {
		t.Skip("minutes of whole processes, each part of which has its own tests with the race detector; make test runs them without")
	}
	used := map[string]bool{}
	for _, document := range documents(t) {
		blocks, _ := split(t, document)
		server := "bin/millpond serve --dev" // or what the document has started with a file
		for _, b := range blocks {
			if !b.commands() {
				continue
			}
			if strings.Contains(b.text, "cat > millpond.yaml") {
				server = b.text
			}
			if key, reason := b.reasonNotToRun(); reason != "" {
				used[document+key] = true
				continue
			}
			t.Run(fmt.Sprintf("%s:%d", document, b.line), func(t *testing.T) {
				if strings.Contains(b.text, "--cluster-name") {
					if testing.Short() {
						t.Skip("three processes")
					}
					t.Parallel() // most of it is the servers' elections
				}
				b.run(t, server)
			})
		}
	}
	for document, reasons := range notRun {
		for beginning := range reasons {
			if !used[document+beginning] {
				t.Errorf("%s has no block that begins with %q", document, beginning)
			}
		}
	}
}

func (b *block) run(t *testing.T, server string) {
	dir := t.TempDir()
	public, internal := freePort(t), freePort(t)
	replace := strings.NewReplacer("@PUBLIC", public, "@INTERNAL", internal, "@BINARY", os.Args[0], "@DIR", dir)
	executable := func(path, text string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil { //nolint:gosec // scripts
			t.Fatal(err)
		}
	}
	executable("bin/millpond", replace.Replace(millpondScript))
	executable("bin/produce", "#!/bin/sh\necho '{\"channel\":\"news\",\"data\":1}'\n")
	b.fixtures(t, dir)
	script := strings.NewReplacer(":8000", ":"+public, ":8001", ":"+internal, ":6222", ":"+freePort(t), "…", "--dev", "/var/lib/millpond", dir+"/data").Replace(b.text)
	if !strings.Contains(script, "millpond serve") {
		script = server + "\n" + script
	}
	command := exec.CommandContext(t.Context(), "bash", "-c", "set -euo pipefail\n"+script)
	command.Dir = dir
	command.Env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"), "KEY=key", "SECRET=secret")
	command.WaitDelay = time.Second
	timer := time.AfterFunc(3*time.Minute, func() { _ = command.Process.Kill() })
	defer timer.Stop()
	output, err := command.CombinedOutput()
	t.Cleanup(func() { b.end(t, dir) })
	if want := codes[b.codeKey()]; err != nil && (want == "" || want[:1] != strconv.Itoa(command.ProcessState.ExitCode())) {
		t.Errorf("%v: %s\n%s", err, script, output)
	}
	if answer := regexp.MustCompile(`"error":\{[^}]*\}`).Find(output); answer != nil {
		t.Errorf("%s\n%s", script, answer)
	}
}

func (b *block) codeKey() string {
	for key := range codes {
		if strings.HasPrefix(b.firstLine(), key) {
			return key
		}
	}
	return ""
}

// fixtures writes the files that documents take for granted.
func (b *block) fixtures(t *testing.T, dir string) {
	t.Helper()
	files := newTLSFiles(t, "localhost")
	copied := map[string]string{"cert.pem": files.cert, "key.pem": files.key}
	for _, name := range []string{"before", "after", "a1", "a2", "a3", "a4", "b1", "b2", "b3", "b4"} {
		copied[name+".json"] = filepath.Join(root, "docs/benchmarks/fanout.json")
	}
	for to, from := range copied {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"token.secret", "key"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// end stops what a block has left running, all of which ends well.
func (b *block) end(t *testing.T, dir string) {
	pids, _ := os.ReadFile(filepath.Join(dir, "pids"))
	var ended []byte
	// The last goes first: what asks a server ends before that does.
	for i, text := range slices.Backward(strings.Fields(string(pids))) {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Errorf("%q is no process", text)
			continue
		}
		_ = syscall.Kill(pid, syscall.SIGTERM)
		defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
		want := len(strings.Fields(string(pids))) - i
		for deadline := time.Now().Add(time.Minute); bytes.Count(ended, []byte("\n")) < want; time.Sleep(10 * time.Millisecond) {
			if ended, _ = os.ReadFile(filepath.Join(dir, "codes")); time.Now().After(deadline) {
				t.Errorf("not all of it ends: %s", ended)
				return
			}
		}
	}
	for line := range strings.Lines(string(ended)) {
		// Those that follow something may not have begun to listen to signals.
		if !strings.HasSuffix(line, " 0\n") && (strings.HasPrefix(line, "serve") || !strings.HasSuffix(line, " 143\n")) {
			log, _ := filepath.Glob(filepath.Join(dir, "log.*"))
			t.Errorf("it ends with an error: %s", line)
			for _, path := range log {
				content, _ := os.ReadFile(path)
				t.Logf("%s", content)
			}
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	address := newCuttable(t, "127.0.0.1:1")
	_, port, _ := strings.Cut(address.Addr().String(), ":")
	_ = address.Close()
	return port
}

var link = regexp.MustCompile(`\]\(([^)\s#]*)(#[^)\s]*)?\)`)

// anchors are those that a document's headings have, by the rules of GitHub's.
func anchors(text string) (list []string) {
	for line := range strings.Lines(text) {
		if title := strings.TrimLeft(line, "#"); title != line && strings.HasPrefix(title, " ") {
			title = regexp.MustCompile(`\[([^]]*)\]\([^)]*\)`).ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "$1")
			list = append(list, "#"+strings.Map(func(r rune) rune {
				switch {
				case r == ' ':
					return '-'
				case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
					return r
				}
				return -1
			}, title))
		}
	}
	return list
}

// Links lead to files, and to headings, that are there.
func TestLinksOfDocuments(t *testing.T) {
	for _, document := range documents(t) {
		_, text := split(t, document)
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor := m[1], m[2]
			if strings.Contains(target, "://") {
				continue // of others
			}
			path := document
			if target != "" {
				path = filepath.Join(filepath.Dir(document), target)
			}
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s: %s: %v", document, target, err)
			} else if anchor != "" && strings.HasSuffix(path, ".md") {
				if _, there := split(t, path); !slices.Contains(anchors(there), anchor) {
					t.Errorf("%s: %s%s: there is no such heading", document, target, anchor)
				}
			}
		}
	}
}

// othersFlags are of other programs.
var othersFlags = []string{"--system", "--now", "--signal", "--reload", "--no-pager", "--version", "--privileged", "--ulimit", "--dry-run", "--set", "--values", "--from-file", "--format", "--subjects", "--retention", "--storage", "--defaults", "--max-age"}

// Each flag that a document names exists.
func TestFlagsOfDocuments(t *testing.T) {
	parser, err := kong.New(&cli{})
	if err != nil {
		t.Fatal(err)
	}
	var flags []string
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		for _, f := range n.Flags {
			for _, name := range append(slices.Clone(f.Aliases), f.Name) {
				flags = append(flags, "--"+name, "--no-"+name)
			}
		}
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(parser.Model.Node)
	named := regexp.MustCompile("(^|[\\s`(\"'\\[])(--[a-z][a-z0-9-]*)(…)?")
	for _, document := range documents(t) {
		if document == "CHANGELOG.md" {
			continue // tells of flags that were, too
		}
		b, err := os.ReadFile(filepath.Join(root, document))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(b), -1) {
			flag, begins := m[2], m[3] != ""
			if slices.Contains(othersFlags, flag) || begins && slices.ContainsFunc(flags, func(f string) bool { return strings.HasPrefix(f, flag) }) {
				continue
			}
			if !slices.Contains(flags, flag) {
				t.Errorf("%s: there is no %s", document, flag)
			}
		}
	}
}

// Each metric that a document names is in docs/metrics.md, which the tests of push hold against the server.
func TestMetricsOfDocuments(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "docs/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`\bmillpond_[a-z0-9_]+`)
	known := named.FindAllString(string(b), -1)
	for _, document := range documents(t) {
		b, err := os.ReadFile(filepath.Join(root, document))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllString(string(b), -1) {
			base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(m, "_bucket"), "_sum"), "_count")
			if slices.Contains(known, base) || slices.Contains(known, m) ||
				strings.HasSuffix(m, "_") && slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(k, m) }) {
				continue
			}
			t.Errorf("%s: there is no metric %s", document, m)
		}
	}
}

// Each file, and each test, that a document names is there.
func TestSourcesOfDocuments(t *testing.T) {
	var sources strings.Builder
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "node_modules", "build"}, entry.Name()):
			return filepath.SkipDir
		case strings.HasSuffix(path, "_test.go"):
			b, err := os.ReadFile(path)
			sources.Write(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:bench|cmd|codec|deploy|handshake|internal|poller|pool|push|session)/[^` ]*|Test[A-Z]\\w+)`")
	for _, document := range documents(t) {
		if document == "CHANGELOG.md" {
			continue // tells of what was
		}
		_, text := split(t, document)
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			name := m[1]
			if strings.HasPrefix(name, "Test") {
				if !strings.Contains(sources.String(), "\nfunc "+name+"(t *testing.T)") {
					t.Errorf("%s: there is no %s", document, name)
				}
			} else if !strings.ContainsAny(name, "*…") && !strings.Contains(name, "NAME") {
				if _, err := os.Stat(filepath.Join(root, name)); err != nil {
					t.Errorf("%s: %v", document, err)
				}
			}
		}
	}
}

// docs/README.md leads to each document beside it.
func TestIndexOfDocuments(t *testing.T) {
	_, index := split(t, "docs/README.md")
	for _, document := range documents(t) {
		name, ok := strings.CutPrefix(document, "docs/")
		if ok && name != "README.md" && !strings.Contains(index, "]("+name+")") && strings.Count(name, "/") == 0 {
			t.Errorf("docs/README.md does not name %s", name)
		}
	}
}

// docs/benchmarks/observability.sh still finds, in the code, what it leaves out.
func TestObservabilityScript(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), "../../docs/benchmarks/observability.sh", "overlay").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
