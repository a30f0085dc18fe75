package deploy

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millpond/millpond/internal/program"
)

// The image is built by buildah, has what it should have, and its program runs in it, as nobody.
func TestImage(t *testing.T) {
	buildah := program.Find(t, "buildah")
	if os.Geteuid() != 0 {
		t.Skip("buildah's chroots need root here")
	}
	dir := t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		command := exec.CommandContext(t.Context(), buildah, append([]string{
			"--root", filepath.Join(dir, "store"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs",
		}, args...)...)
		var stderr bytes.Buffer
		command.Stderr = &stderr
		out, err := command.Output()
		if err != nil {
			t.Fatalf("buildah %v: %v\n%s%s", args, err, out, stderr.Bytes())
		}
		return strings.TrimSpace(string(out))
	}
	t.Cleanup(func() { _ = exec.Command("rm", "-rf", dir).Run() }) // layers are read-only directories

	root := filepath.Join(dir, "root")
	makeTarget(t, "image-root", "BIN="+filepath.Dir(millpond(t)), "VERSION="+testVersion, "IMAGE_ROOT="+root)
	run("bud", "--format=docker", "--isolation=chroot", "--pull-never", "-t", "millpond", "-f", "container/Containerfile", root)
	var image struct {
		OCIv1 struct {
			Config struct {
				User, StopSignal string
				Entrypoint, Cmd  []string
				Volumes          map[string]any
			} `json:"config"`
		}
		Docker struct {
			Config struct{ Healthcheck struct{ Test []string } } `json:"config"`
		}
	}
	if err := json.Unmarshal([]byte(run("inspect", "--type=image", "millpond")), &image); err != nil {
		t.Fatal(err)
	}
	config := image.OCIv1.Config
	if _, volume := config.Volumes["/var/lib/millpond"]; config.User != "65532:65532" || config.StopSignal != "SIGTERM" || !volume ||
		strings.Join(append(config.Entrypoint, config.Cmd...), " ") != "/millpond serve" {
		t.Errorf("the image is %+v", config)
	}
	if check := strings.Join(image.Docker.Config.Healthcheck.Test, " "); check != "CMD /millpond health" {
		t.Errorf("its health is asked by %q", check)
	}
	container := run("from", "--pull-never", "millpond")
	mount := run("mount", container)
	var files []string
	err := filepath.WalkDir(mount, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			files = append(files, strings.TrimPrefix(path, mount))
		}
		return err
	})
	if want := "/etc/ssl/certs/ca-certificates.crt /licenses/LICENSE /licenses/THIRD_PARTY_LICENSES.txt /licenses/millpond.cdx.json /millpond"; err != nil || strings.Join(files, " ") != want {
		t.Errorf("its files are %v, want %s: %v", files, want, err)
	}
	if version := run("run", "--isolation=chroot", container, "--", "/millpond", "version"); !strings.Contains(version, testVersion) {
		t.Errorf("the version is %q", version)
	}
}

// What make build makes of one commit is the same, wherever it is checked out.
func TestReproducible(t *testing.T) {
	checkout := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.CopyFS(checkout, sources{os.DirFS("..").(fs.ReadLinkFS)}); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if err := build(other, checkout); err != nil {
		t.Fatal(err)
	}
	if a, b := readFile(t, millpond(t)), readFile(t, filepath.Join(other, "millpond")); a != b {
		t.Errorf("%d bytes, and elsewhere %d other ones", len(a), len(b))
	}
}
