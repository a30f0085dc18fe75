package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestProcessors(t *testing.T) {
	for quota, want := range map[float64]int{0: 0, -1: 0, 0.1: 2, 1: 2, 2: 2, 2.1: 3, 64: 64} {
		if got := processors(quota); got != want {
			t.Errorf("%v: %d, want %d", quota, got, want)
		}
	}
}

// In a machine whose kernel has control groups of version 2, with the limits on a slice around the service: the memory and the CPUs of the slice are what
// doctor finds, and what Go and the server keep to.
func TestControlGroups(t *testing.T) {
	if os.Getenv("MILLPOND_CGROUP2") == "" {
		t.Skip("an emulated machine takes half a minute: MILLPOND_CGROUP2=1")
	}
	const kernel = "../../build/million/vmlinuz" // of make setup
	root := t.TempDir()
	for _, b := range [][]string{{"init", "./testdata/cgroup2"}, {"millpond", "."}} {
		build := exec.Command("go", "build", "-o", filepath.Join(root, b[0]), b[1])
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, dir := range []string{"proc", "sys", "dev", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(t.TempDir(), "initramfs")
	archive := exec.Command("bash", "-ec", `cd "$0" && find . | cpio --create --format=newc --owner=+0:+0 --quiet >"$1"`, root, image)
	if out, err := archive.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	machine := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot", "-accel", "tcg,thread=multi", "-cpu", "qemu64", "-smp", "4", "-m", "1024",
		"-kernel", kernel, "-initrd", image, "-append", "console=ttyS0 quiet panic=-1 mitigations=off", "-serial", "stdio")
	b, err := machine.CombinedOutput()
	out := strings.ReplaceAll(string(b), "\r", "")
	if err != nil || strings.Contains(out, "FAILED") {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"cgroup memory                  256 MiB", "cpu                            3\n", `msg="memory is limited" limit=cgroup bytes=268435456`, `msg="CPUs are limited" limit=cgroup quota=3 gomaxprocs=3`,
		"\ngo_sched_gomaxprocs_threads 3\n", `millpond_memory_limit_bytes{scope="cgroup"} 2.68435456e+08`, "\ngo_gc_gomemlimit_bytes 2.5",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}
