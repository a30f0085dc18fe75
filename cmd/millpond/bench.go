package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/millpond/millpond/bench"
)

// benchCommand loads a server: the own one, unless --url names another.
type benchCommand struct {
	URL      string `help:"ws://HOST:PORT/PATH of an echo, or wss://; default: start an own server." placeholder:"URL"`
	TLS      bool   `name:"tls" help:"Start the own server with TLS."`
	CA       string `name:"ca" help:"File with the authorities to trust for wss://, in PEM; default: the system's." type:"existingfile" placeholder:"FILE"`
	Insecure bool   `help:"Trust any server of wss://."`
	PID      int    `name:"pid" help:"Process of the server at --url, for its memory and CPU."`
	Metrics  string `help:"URL of that server's /metrics, for its goroutines." placeholder:"URL"`
	API      string `name:"api" help:"URL of that server's API, which ends in /api/." placeholder:"URL"`
	JSON     bool   `name:"json" help:"Print the report as JSON."`

	Idle idleCommand `cmd:"" help:"What does an idle connection cost?"`
	Echo echoCommand `cmd:"" help:"What does a message cost?"`

	Stall stallCommand `cmd:"" help:"What do clients that do not read cost the others?"`

	Handshakes handshakesCommand `cmd:"" help:"What does a TLS handshake cost, also beside net/http?"`

	Storm stormCommand `cmd:"" help:"What does a storm of connects do to those who are in?"`

	Channels channelsCommand `cmd:"" help:"What does a connection with subscriptions cost?"`

	Broadcast broadcastCommand `cmd:"" help:"What does a delivery to one of many subscribers cost, beside plain sends?"`

	APIBench apiBenchCommand `cmd:"" name:"api" help:"What does a publication over the API cost, by itself and with others?"`

	Compare compareCommand `cmd:"" help:"Are two reports different, by more than chance?"`

	Loss lossCommand `cmd:"" help:"Is anything lost, doubled or out of order when clients come and go?"`

	StormClients stormClientsCommand `cmd:"" hidden:"" help:"The storm itself."`

	NetHTTPServer netHTTPServerCommand `cmd:"" name:"net-http-server" hidden:"" help:"What handshakes compares with."`

	BroadcastClients broadcastClientsCommand `cmd:"" hidden:"" help:"The subscribers of broadcast."`

	BareFanServer bareFanServerCommand `cmd:"" hidden:"" help:"The yardstick of broadcast."`

	BareServer bareServerCommand `cmd:"" hidden:"" help:"The yardstick of echo --compare."`
}

func (b *benchCommand) target() bench.Target {
	return bench.Target{
		URL: b.URL, PID: b.PID, Metrics: b.Metrics, API: b.API, OwnTLS: b.TLS, TLS: bench.TLS{CA: b.CA, Insecure: b.Insecure},
	}
}

// print prints a report, also one of a run that was cut short.
func (b *benchCommand) print(s *streams, report fmt.Stringer, err error) error {
	if !b.JSON {
		_, werr := fmt.Fprint(s.out, report.String())
		return errors.Join(err, werr)
	}
	e := json.NewEncoder(s.out)
	e.SetIndent("", "  ")
	return errors.Join(err, e.Encode(report))
}

type idleCommand struct {
	Connections  int           `help:"Connections." default:"15000"`
	Rounds       int           `help:"Times to connect, hold and disconnect." default:"1"`
	MessageBytes int           `help:"Bytes of the one message that each sends." default:"64"`
	Hold         time.Duration `help:"Time to stay connected." default:"5s"`
}

// Run measures idle connections.
func (c *idleCommand) Run(ctx context.Context, s *streams, b *cli) error {
	report, err := bench.Idle(ctx, bench.IdleConfig{
		Target: b.Bench.target(), Connections: c.Connections, Rounds: c.Rounds, MessageBytes: c.MessageBytes, Hold: c.Hold,
	})
	if n := report.Failed(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d connections failed", n))
	}
	return b.Bench.print(s, report, err)
}

type echoCommand struct {
	Connections  int           `help:"Connections." default:"100"`
	Depth        int           `help:"Messages that each sends before it waits for all of them." default:"1"`
	MessageBytes int           `help:"Bytes of a message." default:"64"`
	Duration     time.Duration `help:"Time to measure." default:"10s"`
	Compare      int           `help:"Pairs of runs with the bare loop, a server that does nothing but echo." placeholder:"PAIRS"`
}

// Run measures echoes.
func (c *echoCommand) Run(ctx context.Context, s *streams, b *cli) error {
	config := bench.EchoConfig{
		Target: b.Bench.target(), Connections: c.Connections, Depth: c.Depth, MessageBytes: c.MessageBytes, Duration: c.Duration,
	}
	if c.Compare > 0 {
		return c.compare(ctx, s, b, config)
	}
	report, err := bench.Echo(ctx, config)
	if len(report.Failures) > 0 {
		err = errors.Join(err, errors.New("connections failed"))
	}
	return b.Bench.print(s, report, err)
}

func (c *echoCommand) compare(ctx context.Context, s *streams, b *cli, config bench.EchoConfig) error {
	if config.Target.URL != "" {
		return errors.New("--compare: not with --url, it starts both servers itself")
	}
	report, err := bench.Compare(ctx, config, c.Compare)
	if n := report.Failed(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d connections failed", n))
	}
	return b.Bench.print(s, report, err)
}

type stallCommand struct {
	Connections int           `help:"Connections." default:"10000"`
	Stalled     int           `help:"Those of them that send and do not read." default:"1000"`
	Rate        int           `help:"Messages that the others send in a second." default:"10000"`
	Pairs       int           `help:"Times to measure without and with them." default:"5"`
	Phase       time.Duration `help:"Time to measure each." default:"4s"`
}

// Run measures the others' round trips.
func (c *stallCommand) Run(ctx context.Context, s *streams, b *cli) error {
	report, err := bench.Stall(ctx, bench.StallConfig{
		Target: b.Bench.target(), Connections: c.Connections, Stalled: c.Stalled, Rate: c.Rate, Pairs: c.Pairs, Phase: c.Phase,
	})
	if len(report.Failures) > 0 {
		err = errors.Join(err, errors.New("connections failed"))
	}
	return b.Bench.print(s, report, err)
}

type stormCommand struct {
	Established    int `help:"Connections that are in before." default:"1000"`
	Rate           int `help:"Messages that they send in a second." default:"2000"`
	Connections    int `help:"Connections that come at once." default:"15000"`
	MaxConnections int `help:"The server's bound, beyond which some are refused." default:"13000"`
	AcceptRate     int `help:"Connections that the server accepts in a second." default:"2000"`
}

// Run measures a storm.
func (c *stormCommand) Run(ctx context.Context, s *streams, b *cli) error {
	report, err := bench.Storm(ctx, bench.StormConfig{
		Target: b.Bench.target(), Established: c.Established, Rate: c.Rate, Storm: c.Connections,
		MaxConnections: c.MaxConnections, AcceptRate: c.AcceptRate,
	})
	if len(report.Failures) > 0 {
		err = errors.Join(err, errors.New("connections failed"))
	}
	return b.Bench.print(s, report, err)
}

type stormClientsCommand struct {
	Connections int `arg:""`
}

// Run makes the storm.
func (c stormClientsCommand) Run(ctx context.Context, s *streams, b *cli) error {
	return bench.StormClients(ctx, b.Bench.target(), c.Connections, os.Stdin, s.out)
}

type handshakesCommand struct {
	Connections int `help:"Connections of a run." default:"2000"`
	AtOnce      int `help:"Those of them that are under way at the same time." default:"32"`
	Pairs       int `help:"Times to measure either server." default:"3"`
}

// Run measures TLS handshakes.
func (c *handshakesCommand) Run(ctx context.Context, s *streams, b *cli) error {
	if b.Bench.URL != "" {
		return errors.New("bench handshakes: not with --url, it starts both servers itself")
	}
	report, err := bench.Handshakes(ctx, bench.HandshakesConfig{Connections: c.Connections, AtOnce: c.AtOnce, Pairs: c.Pairs})
	return b.Bench.print(s, report, err)
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
