package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What the host puts into the machine.
const (
	initArgument = "init"
	serverPath   = "millpond"
	sysctlPath   = "sysctl.conf"
	reportName   = "report.json"
)

// runInit is the machine's first process, and its last.
func runInit(args []string) {
	started := time.Now()
	say := func(format string, a ...any) {
		fmt.Printf("%7.1f  %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, a...))
	}
	if err := errors.Join(mountAll(), measureAndSend(args, say)); err != nil {
		say("FAILED: %v", err)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		panic(err) // and the kernel ends the machine
	}
}

func measureAndSend(args []string, say func(string, ...any)) error {
	var p plan
	set := flag.NewFlagSet("init", flag.ContinueOnError)
	p.flags(set)
	if err := set.Parse(args); err != nil {
		return err
	}
	sysctls, err := prepare()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.Timeout)
	defer cancel()
	files, err := run(ctx, p, sysctls, say)
	return errors.Join(err, send(files))
}

func mountAll() error {
	var errs []error
	for _, m := range []struct{ kind, where string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}} {
		if err := unix.Mount(m.kind, m.where, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, fmt.Errorf("mount %s: %w", m.where, err))
		}
	}
	return errors.Join(errs...)
}

// prepare sets the machine's limits and starts its loopback. It returns what it told sysctl.
func prepare() (sysctls []string, err error) {
	b, err := os.ReadFile("/" + sysctlPath)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			sysctls = append(sysctls, line)
		}
	}
	// The clients are on this host, too: with the default range a source address is nearly out of ports at 25,000, and
	// connect(2) tries thousands until it finds a free one.
	sysctls = append(sysctls, "net.ipv4.ip_local_port_range = 1024 65535")
	for _, line := range sysctls {
		name, value, _ := strings.Cut(line, "=")
		path := "/proc/sys/" + strings.ReplaceAll(strings.TrimSpace(name), ".", "/")
		if err := os.WriteFile(path, []byte(strings.TrimSpace(value)), 0); err != nil {
			return nil, fmt.Errorf("sysctl %s: %w", line, err)
		}
	}
	files, err := os.ReadFile("/proc/sys/fs/nr_open")
	if err != nil {
		return nil, err
	}
	var limit uint64
	if _, err := fmt.Sscan(string(files), &limit); err != nil {
		return nil, err
	}
	// The children inherit it.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return nil, fmt.Errorf("descriptors: %w", err)
	}
	return sysctls, loopbackUp()
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// file is one that the host gets.
type file struct {
	name    string
	content []byte
}

// send gives the files to the host, by the second serial port.
func send(files []file) error {
	var b bytes.Buffer
	archive := tar.NewWriter(&b)
	for _, f := range files {
		if err := archive.WriteHeader(&tar.Header{Name: filepath.Base(f.name), Mode: 0o644, Size: int64(len(f.content))}); err != nil {
			return err
		}
		if _, err := archive.Write(f.content); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	port, err := os.OpenFile("/dev/ttyS1", os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	settings, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	settings.Oflag &^= unix.OPOST // bytes as they are
	if err := unix.IoctlSetTermios(int(port.Fd()), unix.TCSETSW, settings); err != nil {
		return err
	}
	_, err = port.Write(b.Bytes())
	if err == nil {
		err = unix.IoctlSetInt(int(port.Fd()), unix.TCSBRK, 1) // until it has left
	}
	return errors.Join(err, port.Close())
}
