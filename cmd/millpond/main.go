// Command millpond is a WebSocket push server and the tools that go with it. This
// package only maps flags, environment and file onto the structs of push and bench.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set by the build.
var version = "unknown"

// cli is the command line. Every flag is also MILLPOND_<FLAG> in the environment,
// and those of serve are keys of the file.
type cli struct {
	Serve     serveCommand     `cmd:"" help:"Run the server."`
	Bench     benchCommand     `cmd:"" help:"Load a server and print what it costs."`
	Publish   publishCommand   `cmd:"" help:"Publish a message through the API."`
	Subscribe subscribeCommand `cmd:"" help:"Print what arrives in channels."`
	Tap       tapCommand       `cmd:"" help:"Print the frames of chosen connections, or write them for Wireshark."`
	Token     tokenCommand     `cmd:"" help:"Sign a token for a first try, or look into one."`
	Doctor    doctorCommand    `cmd:"" help:"Say whether this machine can carry so many connections, and what mends it if not."`
	Health    healthCommand    `cmd:"" help:"Say whether the server of this host is ready; the exit code is 0 if so, for the health check of a container."`
	Config    configCommand    `cmd:"" help:"Check, print and describe the configuration of serve."`
	Version   versionCommand   `cmd:"" help:"Print the version."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run parses and runs one command and returns the exit code: 0, 1 for a command that
// went wrong, 2 for a command line that makes no sense, and what an exitError says.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	var c cli
	exited := errors.New("exit")
	defer func() {
		// Kong's --help exits; a test must be able to ask for it.
		if v := recover(); v != nil && v != exited { //nolint:errorlint // our own sentinel
			panic(v)
		}
	}()
	parser, err := newParser(&c, newDocument,
		kong.Writers(stdout, stderr),
		kong.Exit(func(n int) { code = n; panic(exited) }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(&streams{stdout, stderr, args}, &c),
	)
	if err != nil {
		fmt.Fprintln(stderr, "millpond:", err)
		return 2
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintln(stderr, "millpond:", err)
		return 2
	}
	if err := command.Run(); err != nil {
		fmt.Fprintln(stderr, "millpond:", err)
		if e := (exitError{}); errors.As(err, &e) {
			return e.code
		}
		return 1
	}
	return 0
}

// newParser makes what reads a command line, the environment and a file into c.
func newParser(c *cli, load loader, more ...kong.Option) (*kong.Kong, error) {
	keep := func(name string, source []byte) (d *document, err error) {
		d, err = load(name, source)
		c.Serve.document, c.Config.Show.document = d, d
		return d, err
	}
	return kong.New(c, append([]kong.Option{
		kong.Name("millpond"),
		kong.Description("A WebSocket push server that stays calm at a million connections."),
		kong.UsageOnError(),
		kong.DefaultEnvars("MILLPOND"),
		kong.Bind(loader(keep)),
	}, more...)...)
}

// streams are where a command writes, and what it was called with.
type streams struct {
	out, err io.Writer
	args     []string
}

type versionCommand struct{}

// Run prints the version on one line.
func (versionCommand) Run(s *streams) error {
	_, err := fmt.Fprintf(s.out, "millpond %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
