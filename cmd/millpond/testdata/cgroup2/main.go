// Command cgroup2 is the first process of the machine of TestControlGroups: it makes a slice with limits and a service in it, and has the program
// say what it finds there.
package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	groups  = "/sys/fs/cgroup"
	service = groups + "/app.slice/millpond.service"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "in" { // the group, and then becomes the program
		err := os.WriteFile(filepath.Join(os.Args[2], "cgroup.procs"), []byte("0"), 0)
		fmt.Println(errors.Join(err, unix.Exec(os.Args[3], os.Args[3:], os.Environ())))
		os.Exit(1)
	}
	if err := errors.Join(prepare(), ask()); err != nil {
		fmt.Println("FAILED", err)
	}
	fmt.Println(unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

func prepare() error {
	var errs []error
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"cgroup2", groups}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, fmt.Errorf("mount %s: %w", m[1], err))
		}
	}
	errs = append(errs, os.MkdirAll(service, 0o755))
	for _, w := range [][2]string{
		{"cgroup.subtree_control", "+memory +cpu +pids"}, {"app.slice/cgroup.subtree_control", "+memory +cpu +pids"},
		{"app.slice/memory.max", "268435456"}, {"app.slice/cpu.max", "300000 100000"}, {"app.slice/millpond.service/cpu.max", "max 100000"},
	} {
		errs = append(errs, os.WriteFile(filepath.Join(groups, w[0]), []byte(w[1]), 0))
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	request, err := unix.NewIfreq("lo")
	if err == nil {
		request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
	}
	return errors.Join(append(errs, err)...)
}

// ask prints what doctor and a server's metrics say in the group.
func ask() error {
	doctor := exec.Command("/init", "in", service, "/millpond", "doctor", "--connections=100") // faults are no matter here
	doctor.Stdout, doctor.Stderr = os.Stdout, os.Stdout
	_ = doctor.Run()
	server := exec.Command("/init", "in", service, "/millpond", "serve", "--dev")
	server.Stdout, server.Stderr = os.Stdout, os.Stdout
	if err := server.Start(); err != nil {
		return err
	}
	var response *http.Response
	var err error
	for range 600 {
		if response, err = http.Get("http://127.0.0.1:8001/metrics"); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond) // nothing announces it
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, response.Body)
	return errors.Join(err, response.Body.Close(), server.Process.Signal(unix.SIGTERM), server.Wait())
}
