package journal

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel refuses to let a file grow: nothing is lost that fits in memory, and all of it is written when there is room again. It
// runs in a process of its own, for the limit is the whole process's.
func TestDiskFull(t *testing.T) {
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), "MILLPOND_TEST_FULL_DISK="+t.TempDir())
	out, err := command.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "all is well") {
		t.Fatal(err)
	}
}

// setLimit bounds the size of files. The hard limit stays, so that the bound may be raised again.
func setLimit(bytes uint64) {
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}); err != nil {
		panic(err)
	}
}

func fillDisk(parent string) {
	signal.Ignore(syscall.SIGXFSZ)
	must := func(ok bool, format string, args ...any) {
		if !ok {
			fmt.Printf(format+"\n", args...)
			os.Exit(1)
		}
	}
	j, err := Create(filepath.Join(parent, "a"), Config{})
	must(err == nil, "create: %v", err)
	append100 := func(from int) {
		for i := from; i < from+100; i++ {
			j.Append(int64(i), uint8(i), fmt.Appendf(nil, "record %d", i))
		}
	}
	append100(1)
	must(j.Sync() == nil, "the first records were not written")
	setLimit(uint64(j.Stats().DiskBytes) + 15) // not even one more fits, should it be written alone: the next write is a short one
	append100(101)
	err = j.Sync()
	must(errors.Is(err, syscall.EFBIG), "want EFBIG, have %v", err)
	append100(201)
	st := j.Stats()
	must(st.WriteErrors > 0 && st.Pending > 0 && st.NotWritten == 0, "%+v", st)
	records := j.Next(1000, 1<<20)
	must(len(records) == 100, "%d records were given to the reader, want those that are synced", len(records))
	j.Ack(100)
	setLimit(1 << 30)
	deadline := time.Now().Add(30 * time.Second)
	for j.Sync() != nil {
		must(time.Now().Before(deadline), "never written")
		<-time.After(50 * time.Millisecond)
	}
	records = j.Next(1000, 1<<20)
	for more := j.Next(1000, 1<<20); more != nil; more = j.Next(1000, 1<<20) {
		records = append(records, more...)
	}
	must(len(records) == 200, "%d records, want 200", len(records))
	for i, r := range records {
		must(r.Seq == uint64(101+i), "record %d in place %d", r.Seq, i)
	}
	must(j.Close() == nil, "close")
	fmt.Println("all is well")
}
