package bench

import (
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A listener that nobody accepts from, with a backlog of one, overflows.
func TestOverflows(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	to := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}).String()
	before, err := overflows(0)
	if err != nil {
		t.Fatal(err)
	}
	now := before
	for range 100 {
		c, err := net.DialTimeout("tcp", to, 100*time.Millisecond)
		if err == nil {
			defer func() { _ = c.Close() }()
		}
		if now, err = overflows(os.Getpid()); err != nil {
			t.Fatal(err)
		}
		if now > before {
			return
		}
	}
	t.Errorf("%v after 100 connects, %v before", now, before)
}

// A server of several processes has the memory and CPU of all of them.
func TestGaugeOfSeveralProcesses(t *testing.T) {
	command := exec.Command("sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; read wait")
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = command.Wait() }()
	if _, err := out.Read(make([]byte, 4)); err != nil { // it only waits from now on
		t.Fatal(err)
	}
	other := command.Process.Pid
	use := func(target Target) usage {
		t.Helper()
		u, err := target.gauge().use(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	alone := use(Target{PID: other})
	if alone.CPU == 0 || alone.RSS == 0 {
		t.Fatalf("%+v", alone)
	}
	twice := use(Target{PID: other, Beside: []int{other}})
	if twice.RSS != 2*alone.RSS || twice.CPU < 2*alone.CPU {
		t.Errorf("%+v, twice %+v", alone, twice)
	}
	if _, err := (Target{PID: os.Getpid(), Beside: []int{1 << 30}}).gauge().use(t.Context()); err == nil {
		t.Error("a process that is not there is no error")
	}
}
