package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/millpond/millpond/bench"
	"github.com/millpond/millpond/bench/report"
)

// benchCommand loads a server: an own one, unless --url names another.
type benchCommand struct {
	benchFlags

	Idle idleCommand `cmd:"" help:"What does an idle connection cost?"`
	Echo echoCommand `cmd:"" help:"What does a message cost?"`

	Slow slowCommand `cmd:"" help:"What do clients that do not read cost the others?"`

	Connect connectCommand `cmd:"" help:"How fast does a server take connections, and what does a storm of them do to those who are in?"`

	Handshakes handshakesCommand `cmd:"" help:"What does a TLS handshake cost, also beside net/http?"`

	Fanout fanoutCommand `cmd:"" help:"What does a delivery to one of many subscribers cost, beside plain sends, and how long does it take?"`

	Personal personalCommand `cmd:"" help:"What does a connection with channels cost, and how does a message to each user arrive?"`

	Churn churnCommand `cmd:"" help:"What do clients that come and go do to those who stay?"`

	Recover recoverCommand `cmd:"" help:"Is anything lost, doubled or out of order when clients are cut off and come back?"`

	Drain drainCommand `cmd:"" help:"What does a restart under load do to clients?"`

	Mixed mixedCommand `cmd:"" help:"How does a day go, in a minute?"`

	APIBench apiBenchCommand `cmd:"" name:"api" help:"What does a publication over the API cost, by itself and with others?"`

	Compare compareCommand `cmd:"" help:"Are two reports different, by more than chance?"`

	Part partCommand `cmd:"" hidden:"" help:"A process of the load."`

	NetHTTPServer netHTTPServerCommand `cmd:"" name:"net-http-server" hidden:"" help:"What handshakes compares with."`

	BareFanServer bareFanServerCommand `cmd:"" hidden:"" help:"The yardstick of broadcast."`

	BareServer bareServerCommand `cmd:"" hidden:"" help:"The yardstick of echo."`
}

// benchFlags are those of all scenarios. What is 0 or empty is the scenario's to choose.
type benchFlags struct {
	URL      string `help:"ws://HOST:PORT or wss://HOST:PORT, with a path if it is not where millpond speaks the protocol; default: start an own server." placeholder:"URL"`
	TLS      bool   `name:"tls" help:"Start the own server with TLS."`
	CA       string `name:"ca" help:"File with the authorities to trust for wss://, in PEM; default: the system's." type:"existingfile" placeholder:"FILE"`
	Insecure bool   `help:"Trust any server of wss://."`
	PID      []int  `name:"pid" help:"Process of the server at --url, for its memory and CPU; may be repeated for those of a cluster, which are added up."`
	Metrics  string `help:"URL of that server's /metrics, for its goroutines, and without --pid for its memory and CPU." placeholder:"URL"`

	API        string `name:"api" help:"URL of that server's API, which ends in /api/." placeholder:"URL"`
	APIKeyFile string `name:"api-key-file" help:"File with a key for it." type:"existingfile" placeholder:"FILE"`

	Connections int           `help:"Connections; default: the scenario's." placeholder:"N"`
	Duration    time.Duration `help:"Time to measure; default: the scenario's." placeholder:"TIME"`
	Warmup      time.Duration `help:"Time before that of which nothing is counted." placeholder:"TIME"`
	Rate        float64       `help:"Messages in a second, in all; latencies then count from when each was due." placeholder:"N"`
	Size        int           `help:"Bytes of a message." placeholder:"BYTES"`
	Compare     int           `help:"Times to measure the server and what it is compared with, in turn." placeholder:"PAIRS"`

	ConnectRate float64       `help:"Connections that are begun in a second; default: as many as can be." placeholder:"N"`
	Ramp        time.Duration `help:"Time in which all are begun, instead." placeholder:"TIME"`
	Timeout     time.Duration `help:"Time that the server may take for a handshake or an answer." default:"30s"`
	Source      []string      `help:"Address to connect from, one for every 14,000 connections or so; may be repeated; default: those of loopback for a server there." placeholder:"IP"`
	Processes   int           `help:"Processes that make the load; default: as many as the limit on open files asks for." placeholder:"N"`

	Protocol            string   `help:"echo, plain, centrifuge-json, centrifuge-protobuf or raw; default: the scenario's." enum:",echo,plain,centrifuge-json,centrifuge-protobuf,raw" default:"" placeholder:"NAME"`
	Header              []string `help:"Header of the opening request, in which {n} is the connection's number and {token} its token; may be repeated." sep:"none" placeholder:"NAME:VALUE"`
	Subprotocol         string   `help:"Subprotocol to ask for." placeholder:"NAME"`
	Origin              string   `help:"Origin header." placeholder:"URL"`
	Token               string   `help:"Token of all connections; better in a file." placeholder:"TOKEN"`
	TokenFile           string   `help:"File with tokens, one a line, for one connection after the other." type:"existingfile" placeholder:"FILE"`
	TokenHmacSecretFile string   `help:"File with the secret that signs a token for each connection (HS256), user bench-N." type:"existingfile" placeholder:"FILE"`

	RawOpen        string   `help:"With --protocol raw: what to send when a connection is open. Texts have {n}, {i} for the number of the message, {token} and {pad}, which fills it up to --size, and \\n, \\r, \\t, \\\\, \\xHH." placeholder:"TEXT"`
	RawReady       string   `help:"A connection is ready when a message has this; default: when it is open." placeholder:"REGEXP"`
	RawMessage     string   `help:"What to send, by scenarios that send." placeholder:"TEXT"`
	RawCount       string   `help:"Messages that have this are answers; default: all." placeholder:"TEXT"`
	RawCountRegexp string   `help:"The same as a regular expression, without {n} and {i}." placeholder:"REGEXP"`
	RawAnswer      []string `help:"Answer messages that have the pattern with the reply, and do not count them, such as a server's pings; may be repeated." sep:"none" placeholder:"REGEXP=TEXT"`
	RawBinary      bool     `help:"Send binary messages."`

	JSON   bool           `name:"json" help:"Print the report as JSON."`
	Out    string         `help:"Write the report as JSON to a file, too." type:"path" placeholder:"FILE"`
	HTML   string         `name:"html" help:"Write the report as a page to a file, too." type:"path" placeholder:"FILE"`
	FailIf []report.Limit `help:"Exit with 3 if a figure is so: p99>50ms, lost>0, bytes/conn>1024; with compare a difference: p99>+10%." placeholder:"LIMIT"`
	Quiet  bool           `short:"q" help:"No progress."`
}

// Exit codes of bench beside 0 and 1.
const (
	exitLimit = 3 // a --fail-if
	exitCut   = 4 // a signal ended the run before its time
)

// exitError is an error that wants its own exit code.
type exitError struct {
	error
	code int
}

// Unwrap is for errors.Is.
func (e exitError) Unwrap() error { return e.error }

func (b *benchFlags) target() bench.Target {
	t := bench.Target{
		URL: b.URL, Metrics: b.Metrics, API: b.API, OwnTLS: b.TLS, TLS: bench.TLS{CA: b.CA, Insecure: b.Insecure},
	}
	if len(b.PID) > 0 {
		t.PID, t.Beside = b.PID[0], b.PID[1:]
	}
	return t
}

// options are what the flags say.
func (b *benchFlags) options() (o bench.Options, err error) {
	o = bench.Options{
		Target: b.target(), Connections: b.Connections, Duration: b.Duration, Warmup: b.Warmup, Rate: b.Rate, Size: b.Size, Compare: b.Compare,
		ConnectRate: b.ConnectRate, Ramp: b.Ramp, Timeout: b.Timeout, Processes: b.Processes,
		Protocol: bench.Protocol(b.Protocol), Headers: b.Header, Subprotocol: b.Subprotocol, Origin: b.Origin,
		Raw: bench.Raw{
			Open: b.RawOpen, Ready: b.RawReady, Message: b.RawMessage, Count: b.RawCount, CountRegexp: b.RawCountRegexp,
			Answers: b.RawAnswer, Binary: b.RawBinary,
		},
	}
	var errs []error
	if b.URL == "" {
		for flag, set := range map[string]bool{
			"pid": len(b.PID) > 0, "metrics": b.Metrics != "", "api": b.API != "", "api-key-file": b.APIKeyFile != "", "ca": b.CA != "", "insecure": b.Insecure,
			"token": b.Token != "", "token-file": b.TokenFile != "", "token-hmac-secret-file": b.TokenHmacSecretFile != "",
		} {
			if set {
				errs = append(errs, fmt.Errorf("--%s: it is for a server at --url", flag))
			}
		}
	} else if b.TLS {
		errs = append(errs, errors.New("--tls: the own server's, not with --url: that says ws:// or wss://"))
	}
	for _, s := range b.Source {
		a, err := netip.ParseAddr(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("--source %q: want an IP address", s))
		}
		o.Sources = append(o.Sources, a.Unmap())
	}
	read := func(flag, name string) []byte {
		if name == "" {
			return nil
		}
		content, err := os.ReadFile(name)
		if content = bytes.TrimSpace(content); err == nil && len(content) == 0 {
			err = fmt.Errorf("%s is empty", name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", flag, err))
		}
		return content
	}
	o.Target.APIKey = string(read("api-key-file", b.APIKeyFile))
	o.TokenSecret = read("token-hmac-secret-file", b.TokenHmacSecretFile)
	for lines := bufio.NewScanner(bytes.NewReader(read("token-file", b.TokenFile))); lines.Scan(); {
		if token := strings.TrimSpace(lines.Text()); token != "" {
			o.Tokens = append(o.Tokens, token)
		}
	}
	if b.Token != "" {
		if len(o.Tokens) > 0 {
			errs = append(errs, errors.New("--token, --token-file: one or the other"))
		}
		o.Tokens = []string{b.Token}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return o, errors.Join(errs...)
}

// measure runs a scenario and tells what it found, also of a run that was cut short.
func (b *benchFlags) measure(ctx context.Context, s *streams, scenario bench.Scenario) error {
	o, err := b.options()
	if err = errors.Join(err, bench.CheckLimits(scenario, b.FailIf)); err != nil {
		return err
	}
	stage := bench.Stage{Version: version, Command: s.args}
	if !b.Quiet {
		stage.Live, stage.Terminal = s.err, isTerminal(s.err)
	}
	r, err := bench.Measure(ctx, scenario, o, stage)
	if r == nil {
		return err
	}
	if errors.Is(err, bench.ErrCut) {
		err = exitError{err, exitCut}
	}
	err = errors.Join(err, b.write(s.out, r))
	return overLimit(err, r.FailIf(b.FailIf))
}

// overLimit adds that a limit is broken to an error, whose exit code wins.
func overLimit(err, limit error) error {
	if limit == nil {
		return err
	}
	if err == nil {
		return exitError{limit, exitLimit}
	}
	return errors.Join(err, limit)
}

// write prints the report, and writes the files that were asked for.
func (b *benchFlags) write(out io.Writer, r *report.Report) (err error) {
	if b.JSON {
		err = r.WriteJSON(out)
	} else {
		err = r.WriteText(out)
	}
	if b.Out != "" {
		err = errors.Join(err, writeResult("out", b.Out, r.WriteJSON))
	}
	if b.HTML != "" {
		err = errors.Join(err, writeResult("html", b.HTML, r.WriteHTML))
	}
	return err
}

type idleCommand struct {
	Rounds int `help:"Times to connect, hold and disconnect." default:"1"`
}

// Help is kong's.
func (idleCommand) Help() string {
	return "15,000 connections for 5s, each after one message of 64 bytes, or with another --protocol after its login."
}

// Run measures idle connections.
func (c *idleCommand) Run(ctx context.Context, s *streams, b *cli) error {
	return b.Bench.measure(ctx, s, bench.Idle{Rounds: c.Rounds})
}

type echoCommand struct {
	Depth int  `help:"Messages that each sends before it waits for all of them." default:"1"`
	Bare  bool `help:"Measure a bare loop that reads, unmasks and writes back, too, in turn with the server, if that is on loopback and its CPU is known." default:"true" negatable:""`
}

// Help is kong's.
func (echoCommand) Help() string {
	return "100 connections, messages of 64 bytes, for 10s in 3 parts (--compare), each after 1s and beside the same with a bare loop."
}

// Run measures echoes.
func (c *echoCommand) Run(ctx context.Context, s *streams, b *cli) error {
	return b.Bench.measure(ctx, s, bench.Echo{Depth: c.Depth, NoBare: !c.Bare})
}

type slowCommand struct {
	Stalled int `help:"Connections that send and do not read; default: a tenth." placeholder:"N"`
}

// Help is kong's.
func (slowCommand) Help() string {
	return "10,000 connections, 10,000 messages a second; without and with stalled clients 5 times (--compare), for 4s each."
}

// Run measures the others' round trips.
func (c *slowCommand) Run(ctx context.Context, s *streams, b *cli) error {
	return b.Bench.measure(ctx, s, bench.Slow{Stalled: c.Stalled})
}

type connectCommand struct {
	Established    int `help:"Connections that are in before, and send --rate messages a second; default: 1,000; -1: none." placeholder:"N"`
	MaxConnections int `help:"The own server's bound, beyond which some are refused; default: 13,000." placeholder:"N"`
	AcceptRate     int `help:"Connections that the own server accepts in a second; default: 2,000." placeholder:"N"`
}

// Help is kong's.
func (connectCommand) Help() string {
	return "15,000 connections at once, or at --connect-rate, beside 1,000 that are in and send 2,000 messages a second."
}

// Run measures a storm.
func (c *connectCommand) Run(ctx context.Context, s *streams, b *cli) error {
	return b.Bench.measure(ctx, s, bench.Connect{Established: c.Established, MaxConnections: c.MaxConnections, AcceptRate: c.AcceptRate})
}

type handshakesCommand struct {
	AtOnce int `help:"Connections that are under way at the same time." default:"32"`
}

// Help is kong's.
func (handshakesCommand) Help() string {
	return "2,000 connections a run, full and resumed, 3 times by each server (--compare)."
}

// Run measures TLS handshakes.
func (c *handshakesCommand) Run(ctx context.Context, s *streams, b *cli) error {
	return b.Bench.measure(ctx, s, bench.Handshakes{AtOnce: c.AtOnce})
}

type partCommand struct{}

// Run makes a part of a load.
func (partCommand) Run(ctx context.Context) error {
	return bench.ServePart(ctx, os.Stdin, os.Stdout)
}

type netHTTPServerCommand struct {
	Dir string `arg:""`
}

// Run serves by net/http until it is told to stop.
func (c netHTTPServerCommand) Run(ctx context.Context, s *streams) error {
	return bench.ServeNetHTTP(ctx, c.Dir, s.out)
}

type bareServerCommand struct{}

// Run serves the yardstick until it is told to stop.
func (bareServerCommand) Run(ctx context.Context, s *streams) error {
	return bench.ServeBare(ctx, s.out)
}

type bareFanServerCommand struct{}

// Run serves the yardstick until it is told to stop.
func (bareFanServerCommand) Run(ctx context.Context, s *streams) error {
	return bench.ServeBareFan(ctx, s.out)
}
