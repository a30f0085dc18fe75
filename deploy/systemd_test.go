package deploy

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millpond/millpond/internal/program"
)

var units = []string{"millpond.service", "millpond@.service", "millpond.socket"}

// systemd finds nothing to say about the units, with the program in its place.
func TestUnitsAreGood(t *testing.T) {
	analyze := program.Find(t, "systemd-analyze")
	dir := t.TempDir()
	args := []string{"verify", "--man=no"}
	for _, name := range units {
		text := readFile(t, "systemd/"+name)
		if strings.HasSuffix(name, ".service") {
			text = replace(t, text, "ExecStart=millpond ", "ExecStart="+millpond(t)+" ")
		}
		args = append(args, writeFile(t, filepath.Join(dir, name), text))
	}
	if out, err := exec.CommandContext(t.Context(), analyze, args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// The score that deploy/README.md states, in tenths.
	for _, name := range units[:2] {
		out, err := exec.CommandContext(t.Context(), analyze, "security", "--no-pager", "--offline=true", "--threshold=13", filepath.Join(dir, name)).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// What one unit is hardened by, the other is, too.
func TestUnitsAreAlike(t *testing.T) {
	settings := func(name string) (list []string) {
		for line := range strings.Lines(readFile(t, "systemd/"+name)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				list = append(list, line)
			}
		}
		return list
	}
	without := func(a, b []string) (list []string) {
		for _, line := range a {
			if !slices.Contains(b, line) {
				list = append(list, line)
			}
		}
		return list
	}
	one, template := settings(units[0]), settings(units[1])
	if got, want := without(one, template), []string{"Description=millpond WebSocket push server", "DynamicUser=yes"}; !slices.Equal(got, want) {
		t.Errorf("%s alone has %q", units[0], got)
	}
	if got, want := without(template, one), []string{
		"Description=millpond WebSocket push server, process %i", `--takeover /run/millpond/takeover.sock \`,
		"RuntimeDirectoryPreserve=yes", "User=millpond", "Group=millpond",
	}; !slices.Equal(got, want) {
		t.Errorf("%s alone has %q", units[1], got)
	}
}

// What no tool would miss, and an operator would: room for a million, time to drain, SIGHUP for reload, a restart, directories, each credential, and the
// ports that the program listens on.
func TestUnitsSay(t *testing.T) {
	settings := func(name string) map[string][]string {
		out := map[string][]string{}
		for line := range strings.Lines(strings.ReplaceAll(readFile(t, "systemd/"+name), "\\\n", " ")) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
				out[key] = append(out[key], value)
			}
		}
		return out
	}
	defaults := map[string]string{}
	b, err := exec.CommandContext(t.Context(), millpond(t), "config", "default").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			defaults[key] = strings.Trim(value, `"[]`)
		}
	}
	seconds := func(text string) time.Duration {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Errorf("%q is no time", text)
		}
		return d
	}
	for _, name := range units[:2] {
		unit := settings(name)
		for key, want := range map[string]string{
			"ExecReload": "/bin/kill -HUP $MAINPID", "Restart": "on-failure", "StateDirectory": "millpond", "LogsDirectory": "millpond", "RuntimeDirectory": "millpond",
			"RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX", "UMask": "0077",
		} {
			if got := strings.Join(unit[key], " "); got != want {
				t.Errorf("%s: %s=%s, want %s", name, key, got, want)
			}
		}
		if n, err := strconv.Atoi(strings.Join(unit["LimitNOFILE"], "")); err != nil || n < 1_001_000 {
			t.Errorf("%s: LimitNOFILE=%v is not room for a million", name, unit["LimitNOFILE"])
		}
		if stop, drain := seconds(strings.Join(unit["TimeoutStopSec"], "")), seconds(defaults["drain_timeout"])+seconds(defaults["close_timeout"])+5*time.Second; stop <= drain {
			t.Errorf("%s: TimeoutStopSec=%v, and the drain may take %v", name, stop, drain)
		}
		var needed []string
		for _, m := range regexp.MustCompile(`\$\{CREDENTIALS_DIRECTORY\}/(\S+)`).FindAllStringSubmatch(strings.Join(unit["ExecStart"], " "), -1) {
			needed = append(needed, m[1]+":/etc/millpond/"+m[1])
		}
		if got := unit["LoadCredential"]; len(got) == 0 || !slices.Equal(got, needed) {
			t.Errorf("%s: LoadCredential=%v, and the command needs %v", name, got, needed)
		}
	}
	port := func(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
	if got := settings(units[2])["ListenStream"]; len(got) != 2 || port(got[0]) != port(defaults["listen"]) || got[1] != defaults["internal_listen"] {
		t.Errorf("%s opens %v, and the program listens on %s and %s", units[2], got, defaults["listen"], defaults["internal_listen"])
	}
	if config := readFile(t, "millpond.yaml"); !strings.Contains(config, "\ndata_dir: /var/lib/millpond\n") {
		t.Error("millpond.yaml has another data_dir than the unit's StateDirectory")
	}
}

// execStart returns the arguments that a unit gives the program, with files in dir.
func execStart(t *testing.T, name, dir string) []string {
	t.Helper()
	text := strings.ReplaceAll(readFile(t, "systemd/"+name), "\\\n", " ")
	_, text, _ = strings.Cut(text, "\nExecStart=millpond ")
	line, _, found := strings.Cut(text, "\n")
	if !found {
		t.Fatalf("%s has no ExecStart", name)
	}
	line = replace(t, line, "${CREDENTIALS_DIRECTORY}", dir, "/etc/millpond", dir)
	line = strings.ReplaceAll(line, "/run/millpond", dir)
	return append(strings.Fields(line), "--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0", "--data-dir="+dir)
}

// etcMillpond is the service's directory, with the configuration that is here.
func etcMillpond(t *testing.T) string {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "millpond.yaml"), readFile(t, "millpond.yaml"))
	writeFile(t, filepath.Join(dir, "token.secret"), strings.Repeat("s", 44)+"\n")
	writeFile(t, filepath.Join(dir, "api.keys"), strings.Repeat("k", 64)+"\n")
	return dir
}

// The command of the unit serves, with the configuration that is here, and ends by SIGTERM with 0.
func TestUnitServes(t *testing.T) {
	serve(t, execStart(t, "millpond.service", etcMillpond(t))...).stop()
}

// The second instance takes the sockets over, and the first one ends by itself.
func TestUnitInstances(t *testing.T) {
	dir := etcMillpond(t)
	args := append(execStart(t, "millpond@.service", dir), "--drain-grace=0s")
	a := serve(t, args...)
	b := serve(t, args...)
	if a.public != b.public {
		t.Errorf("the second instance listens on %s, the first one did on %s", b.public, a.public)
	}
	if code := a.wait(); code != 0 {
		t.Errorf("exit code %d of the first instance", code)
	}
	b.stop()
}
