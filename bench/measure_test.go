package bench

import (
	"os"
	"os/exec"
	"testing"
)

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
