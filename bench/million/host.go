package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

const (
	qemu          = "qemu-system-x86_64"
	mebibyte      = 1 << 20
	perConnection = 11 << 10 // bytes of the machine's memory: both ends in the kernel, and in the processes
	emulator      = 512      // MiB of its own
)

// host makes the machine and runs it.
type host struct {
	plan   plan
	Kernel string // its vmlinuz
	Server string // bin/millpond
	Sysctl string
	Dir    string // for what comes out
	Accel  string // qemu's -accel
	CPUs   int
	Memory int // MiB; 0: what the connections need
}

func (h *host) flags(set *flag.FlagSet) {
	set.StringVar(&h.Kernel, "kernel", "build/million/vmlinuz", "the kernel (make setup fetches Debian's)")
	set.StringVar(&h.Server, "server", "bin/millpond", "the static binary to measure")
	set.StringVar(&h.Sysctl, "sysctl", "deploy/sysctl/90-millpond.conf", "the kernel's limits")
	set.StringVar(&h.Dir, "dir", "build/million", "directory for the machine and its report")
	set.StringVar(&h.Accel, "accel", "tcg,thread=multi", "qemu's -accel: software by default, which works everywhere")
	set.IntVar(&h.CPUs, "cpus", 2, "CPUs of the machine")
	set.IntVar(&h.Memory, "memory", 0, "memory of the machine in MiB; 0: 1 GiB and 11 KiB for each connection")
}

// missingError is a reason not to run.
type missingError string

func (e missingError) Error() string { return string(e) }

// memory is that of the machine, in MiB.
func (h *host) memory() int {
	if h.Memory > 0 {
		return h.Memory
	}
	return 1024 + h.plan.Connections*perConnection/mebibyte
}

// missing says what the host lacks.
func (h *host) missing() error {
	for _, program := range []string{qemu, "cpio"} {
		if _, err := exec.LookPath(program); err != nil {
			return missingError(program + " is not installed: make setup")
		}
	}
	if _, err := os.Stat(h.Kernel); err != nil {
		return missingError("no kernel: " + err.Error() + ": make setup")
	}
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return err
	}
	info, err := fs.Meminfo()
	if err != nil || info.MemAvailableBytes == nil {
		return errors.Join(errors.New("/proc/meminfo has no MemAvailable"), err)
	}
	if have := int(*info.MemAvailableBytes / mebibyte); have < h.memory()+emulator {
		return missingError(fmt.Sprintf("%d MiB of memory are available, and the machine wants %d, the emulator %d", have, h.memory(), emulator))
	}
	return nil
}

// run runs the machine until it has powered off.
func (h *host) run(ctx context.Context, out io.Writer) (*report, error) {
	if err := h.missing(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(h.Dir, 0o755); err != nil {
		return nil, err
	}
	image, results := filepath.Join(h.Dir, "initramfs"), filepath.Join(h.Dir, "results.tar")
	if err := h.initramfs(ctx, image); err != nil {
		return nil, err
	}
	if err := os.Remove(results); err != nil && !errors.Is(err, os.ErrNotExist) { // an old one is no result
		return nil, err
	}
	log, err := os.Create(filepath.Join(h.Dir, "console.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, h.plan.Timeout, fmt.Errorf("not done after %v", h.plan.Timeout))
	defer cancel()
	machine := exec.CommandContext(ctx, qemu, h.arguments(image, results)...)
	machine.Stdout, machine.Stderr = io.MultiWriter(out, log), os.Stderr
	if err := machine.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", qemu, err), context.Cause(ctx))
	}
	return h.unpack(results)
}

// arguments are qemu's. The console is its output; the second serial port is for results.
func (h *host) arguments(image, results string) []string {
	kernel := []string{
		"console=ttyS0", "quiet", "panic=-1", // an init that dies ends the machine
		"mitigations=off", "tsc=reliable", "init_on_alloc=0", "nohz=off", "highres=off", // an emulated CPU has no time for them
		// By default the kernel's table of connections has 131,072 chains here.
		fmt.Sprintf("thash_entries=%d", 2*h.plan.Connections),
		"--", initArgument,
	}
	return []string{
		"-nodefaults", "-display", "none", "-no-reboot", "-accel", h.Accel, "-cpu", "qemu64",
		"-smp", strconv.Itoa(h.CPUs), "-m", strconv.Itoa(h.memory()),
		"-kernel", h.Kernel, "-initrd", image, "-append", strings.Join(append(kernel, h.plan.args()...), " "),
		"-serial", "stdio", "-serial", "file:" + results,
	}
}

// initramfs makes the machine's files.
func (h *host) initramfs(ctx context.Context, image string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	root, err := os.MkdirTemp(h.Dir, "root-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(root) }()
	for _, file := range []struct{ from, to string }{{self, "init"}, {h.Server, serverPath}, {h.Sysctl, sysctlPath}} {
		content, err := os.ReadFile(file.from)
		if err == nil {
			err = os.WriteFile(filepath.Join(root, file.to), content, 0o755)
		}
		if err != nil {
			return err
		}
	}
	for _, dir := range []string{"proc", "sys", "dev", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	to, err := os.Create(image)
	if err != nil {
		return err
	}
	defer to.Close()
	archive := exec.CommandContext(ctx, "cpio", "--create", "--format=newc", "--owner=+0:+0", "--quiet")
	archive.Dir, archive.Stdout, archive.Stderr = root, to, os.Stderr
	archive.Stdin = strings.NewReader(strings.Join([]string{".", "init", serverPath, sysctlPath, "proc", "sys", "dev", "tmp"}, "\n"))
	return archive.Run()
}

// unpack writes the files that came out of the machine into Dir, and reads the report.
func (h *host) unpack(results string) (*report, error) {
	in, err := os.Open(results)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var r *report
	for archive := tar.NewReader(in); ; {
		header, err := archive.Next()
		if err == nil {
			var content []byte
			if content, err = io.ReadAll(archive); err == nil {
				err = os.WriteFile(filepath.Join(h.Dir, filepath.Base(header.Name)), content, 0o644)
			}
			if header.Name == reportName && err == nil {
				err = json.Unmarshal(content, &r)
			}
		}
		switch {
		case errors.Is(err, io.EOF) && r == nil:
			return nil, errors.New("the machine ended without a report: its console says why")
		case errors.Is(err, io.EOF):
			return r, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", results, err)
		}
	}
}
