// Command peers measures millpond beside other WebSocket servers in Go, all with the same tool, in turns, on the same
// machine.
//
// It is a module of its own, so that the others are no dependencies of millpond. `make peers` runs it and writes
// docs/benchmarks/peers.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// run is `peers serve NAME`, which serves until ctx ends, or the measurement.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	if len(args) == 2 && args[0] == "serve" {
		return serve(ctx, args[1], out)
	}
	var p plan
	var only string
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.StringVar(&p.millpond, "millpond", "bin/millpond", "the millpond to measure, and to measure with")
	flags.IntVar(&p.rounds, "rounds", 5, "rounds, in each of which every server is measured once; four at least, to tell servers apart")
	flags.DurationVar(&p.duration, "duration", 4*time.Second, "time to measure messages")
	flags.IntVar(&p.few, "few", 100, "connections of the small cases")
	flags.IntVar(&p.many, "many", 10_000, "connections of the large cases")
	flags.StringVar(&only, "only", "", "servers to measure beside millpond, by commas; default: all")
	flags.StringVar(&p.page, "out", "", "Markdown file to write; the figures go beside it as .json")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is no argument", flags.Arg(0))
	}
	if p.rounds < 1 || p.few < 1 || p.many < 1 || p.duration <= 0 {
		return errors.New("rounds, connections and duration are at least 1")
	}
	var err error
	if p.peers, err = chosen(only); err != nil {
		return err
	}
	p.command = again(flags)
	return p.measure(ctx, out, progress)
}

// chosen returns the peers of those names, all for none.
func chosen(only string) ([]peer, error) {
	if only == "" {
		return peers, nil
	}
	var out []peer
	for name := range strings.SplitSeq(only, ",") {
		p, err := named(name)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// again is the command that makes the same measurement: what the Makefile says by itself is left out.
func again(flags *flag.FlagSet) string {
	var set []string
	flags.Visit(func(f *flag.Flag) {
		if f.Name != "millpond" && f.Name != "out" {
			set = append(set, "-"+f.Name+"="+f.Value.String())
		}
	})
	if len(set) == 0 {
		return "make peers"
	}
	return "make peers PEERS='" + strings.Join(set, " ") + "'"
}
