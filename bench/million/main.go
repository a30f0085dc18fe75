// Command million measures a server with a million connections where no process may have a million descriptors: in an
// emulated machine of its own. It is Debian's qemu with Debian's cloud kernel, and an initramfs that has this program
// as init, bin/millpond and deploy/sysctl. Nothing of the host is changed, and no privilege is needed.
//
// In the machine one `millpond serve` and one `millpond bench idle` speak over loopback. Init reads from /proc and
// /metrics what it costs, tells on the console how it goes, and hands files back: report.json, the server's metrics and
// its heap profile.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// plan is what both sides of the machine know: the host gives it to init as arguments.
type plan struct {
	Connections  int
	PingInterval time.Duration
	PongTimeout  time.Duration
	Hold         time.Duration // from when all are open
	Timeout      time.Duration // of all of it, on the host
}

func (p *plan) flags(set *flag.FlagSet) {
	set.IntVar(&p.Connections, "connections", 1_000_000, "connections")
	set.DurationVar(&p.PingInterval, "ping-interval", 5*time.Minute, "time between two heartbeats of a connection; emulated CPUs are slow")
	set.DurationVar(&p.PongTimeout, "pong-timeout", time.Minute, "time from a ping to any sign of life")
	set.DurationVar(&p.Hold, "hold", 0, "time that the connections stay open; 0: one and a half ping intervals")
	set.DurationVar(&p.Timeout, "timeout", 3*time.Hour, "time after which the machine is ended")
}

// hold is how long the connections are held.
func (p *plan) hold() time.Duration {
	if p.Hold > 0 {
		return p.Hold
	}
	return p.PingInterval * 3 / 2
}

// args are the flags again.
func (p *plan) args() []string {
	return []string{
		fmt.Sprintf("-connections=%d", p.Connections), "-ping-interval=" + p.PingInterval.String(),
		"-pong-timeout=" + p.PongTimeout.String(), "-hold=" + p.Hold.String(), "-timeout=" + p.Timeout.String(),
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == initArgument {
		runInit(os.Args[2:])
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command(ctx, os.Args[1:], os.Stdout)
	var missing missingError
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.As(err, &missing):
		fmt.Println("million: skipped:", missing)
	case err != nil:
		fmt.Fprintln(os.Stderr, "million:", err)
		stop()
		os.Exit(1) //nolint:gocritic // what is deferred is stop, which was called
	}
}

// command is the host's side: it runs the machine, whose console goes to out, and prints the report.
func command(ctx context.Context, args []string, out io.Writer) error {
	var h host
	set := flag.NewFlagSet("million", flag.ContinueOnError)
	h.plan.flags(set)
	h.flags(set)
	if err := set.Parse(args); err != nil {
		return err
	}
	if set.NArg() > 0 {
		return fmt.Errorf("%q: no such argument", set.Arg(0))
	}
	report, err := h.run(ctx, out)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(out, "\n", report)
	return errors.Join(err, report.fault())
}
