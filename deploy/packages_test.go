package deploy

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/millpond/millpond/internal/program"
)

// packaged is what both packages have.
var packaged = []string{
	"/usr/bin/millpond", "/etc/millpond/millpond.yaml", "/usr/lib/sysusers.d/millpond.conf", "/usr/lib/sysctl.d/90-millpond.conf",
	"/usr/lib/systemd/system/millpond.service", "/usr/lib/systemd/system/millpond@.service", "/usr/lib/systemd/system/millpond.socket",
	"/usr/share/doc/millpond/copyright", "/usr/share/doc/millpond/THIRD_PARTY_LICENSES.txt", "/usr/share/doc/millpond/millpond.cdx.json",
}

// The packages and bills of materials are the same in two builds; the deb is installed, installed again and purged by dpkg, in a directory; rpm reads the rpm.
func TestPackages(t *testing.T) {
	program.Find(t, "../bin/tools/nfpm")
	dpkg, rpm := program.Find(t, "dpkg"), program.Find(t, "rpm")
	dist, again := t.TempDir(), t.TempDir()
	for _, dir := range []string{dist, again} {
		makeTarget(t, "dist", "DIST="+dir, "ARCHES="+runtime.GOARCH, "VERSION="+testVersion)
	}
	if a, b := readFile(t, filepath.Join(dist, "SHA256SUMS")), readFile(t, filepath.Join(again, "SHA256SUMS")); a != b || strings.Count(a, "\n") != 4 {
		t.Errorf("checksums\n%sand then\n%s", a, b)
	}
	find := func(pattern string) string {
		t.Helper()
		list, err := filepath.Glob(filepath.Join(dist, pattern))
		if err != nil || len(list) != 1 {
			t.Fatalf("%s: %v, %v", pattern, list, err)
		}
		return list[0]
	}

	out, err := exec.CommandContext(t.Context(), rpm, "-qpl", find("*.rpm")).CombinedOutput()
	for _, file := range packaged {
		if err != nil || !strings.Contains(string(out), file+"\n") {
			t.Errorf("the rpm has no %s: %v\n%s", file, err, out)
		}
	}

	if os.Geteuid() != 0 {
		t.Skip("dpkg installs as root only")
	}
	root := t.TempDir()
	for _, dir := range []string{"info", "updates", "triggers"} {
		if err := os.MkdirAll(filepath.Join(root, "var/lib/dpkg", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(root, "var/lib/dpkg/status"), "")
	run := func(args ...string) {
		t.Helper()
		args = append([]string{"--root=" + root, "--force-script-chrootless", "--force-not-root", "--log=/dev/null"}, args...)
		if out, err := exec.CommandContext(t.Context(), dpkg, args...).CombinedOutput(); err != nil {
			t.Fatalf("dpkg %v: %v\n%s", args, err, out)
		}
	}
	in := func(path string) string { return filepath.Join(root, path) }
	run("-i", find("*.deb"))
	for _, file := range packaged {
		if _, err := os.Stat(in(file)); err != nil {
			t.Errorf("the deb: %v", err)
		}
	}
	if readFile(t, in("/usr/bin/millpond")) != readFile(t, millpond(t)) {
		t.Error("the package's program is another one")
	}
	bill := readFile(t, in("/usr/share/doc/millpond/millpond.cdx.json"))
	if bill != readFile(t, find("*_"+runtime.GOARCH+".cdx.json")) || !strings.Contains(bill, fmt.Sprintf("%x", sha256.Sum256([]byte(readFile(t, millpond(t)))))) {
		t.Errorf("the bill of materials is another program's: %.500s", bill)
	}
	keys := readFile(t, in("/etc/millpond/token.secret")) + readFile(t, in("/etc/millpond/api.keys"))
	if info, err := os.Stat(in("/etc/millpond/token.secret")); err != nil || info.Mode() != 0o600 || len(keys) != 2*65 {
		t.Errorf("the keys are %q, %v", keys, err)
	}
	// What the package has installed serves.
	args := []string{"serve", "--config", in("/etc/millpond/millpond.yaml"), "--token-hmac-secret-file", in("/etc/millpond/token.secret"), "--api-key-file", in("/etc/millpond/api.keys")}
	serve(t, append(args, "--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0", "--data-dir="+t.TempDir())...).stop()

	writeFile(t, in("/etc/millpond/millpond.yaml"), "log_level: warn\n")
	run("--force-confdef", "--force-confold", "-i", find("*.deb"))
	if readFile(t, in("/etc/millpond/token.secret"))+readFile(t, in("/etc/millpond/api.keys")) != keys || readFile(t, in("/etc/millpond/millpond.yaml")) != "log_level: warn\n" {
		t.Error("an upgrade has changed keys or the configuration")
	}
	run("-r", "millpond")
	if _, err := os.Stat(in("/etc/millpond/token.secret")); err != nil {
		t.Error(err)
	}
	run("-P", "millpond")
	if _, err := os.Stat(in("/etc/millpond")); !os.IsNotExist(err) {
		t.Errorf("purged, /etc/millpond is there: %v", err)
	}
}
