package bench

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Options are what all scenarios take. Zero leaves a value to the scenario. They are sent to the processes that make
// the load, by a pipe, because there are secrets among them.
type Options struct {
	// Target is the server.
	Target Target
	// Connections in all.
	Connections int
	// Duration of what is measured, which begins after Warmup.
	Duration time.Duration
	Warmup   time.Duration
	// Rate is how many messages are sent in a second, in all. Latencies then count from the time at which each was due.
	Rate float64
	// Size is a message's, in bytes.
	Size int
	// Compare is how often the server and the yardstick of the scenario are measured, in turn.
	Compare int

	// ConnectRate is how many connections are begun in a second; Ramp is the time in which all are. At most one of them is
	// set.
	ConnectRate float64
	Ramp        time.Duration
	// Timeout bounds every wait for the server: for a handshake, for an answer. Zero means 30 s.
	Timeout time.Duration
	// Sources are the addresses to connect from. Empty means those of loopback for a server there, one for every so many
	// ports; the kernel's choice else.
	Sources []netip.Addr
	// Processes make the load. Zero means as many as the limit on open files asks for.
	Processes int

	// Protocol is what the connections speak. Empty leaves it to the scenario.
	Protocol Protocol
	// Headers are "Name: value" lines of the opening request.
	Headers []string
	// Subprotocol and Origin are headers of it.
	Subprotocol string
	Origin      string
	// Tokens are the clients', one after the other; TokenSecret signs one for each instead.
	Tokens      []string
	TokenSecret []byte
	// Raw says what is sent and counted with ProtocolRaw.
	Raw Raw

	// still is how long nothing may come while something is expected. Zero means Timeout.
	still time.Duration
}

// Protocol is what connections speak.
type Protocol string

// The protocols.
const (
	ProtocolEcho     Protocol = "echo"
	ProtocolPlain    Protocol = "plain"
	ProtocolJSON     Protocol = "centrifuge-json"
	ProtocolProtobuf Protocol = "centrifuge-protobuf"
	ProtocolRaw      Protocol = "raw"
)

// protobufSubprotocol is what those who speak ProtocolProtobuf ask for.
const protobufSubprotocol = "centrifuge-protobuf"

// path is where millpond speaks it.
func (p Protocol) path() string {
	switch p {
	case ProtocolEcho:
		return echoPath
	case ProtocolPlain:
		return plainPath
	case ProtocolJSON, ProtocolProtobuf:
		return centrifugePath
	}
	return "/"
}

// centrifuge tells whether it is that, in either encoding.
func (p Protocol) centrifuge() bool { return p == ProtocolJSON || p == ProtocolProtobuf }

// Speak is the protocol, which must be one of those. The default is the one whose path --url has at millpond, or the
// first.
func (o *Options) Speak(scenario string, protocols ...Protocol) error {
	if u, err := url.Parse(o.Target.URL); err == nil && o.Protocol == "" && u.Path != "" {
		at := func(p Protocol) bool { return p != ProtocolRaw && p.path() == u.Path }
		if i := slices.IndexFunc(protocols, at); i >= 0 {
			o.Protocol = protocols[i]
		}
		if o.Protocol == ProtocolJSON && o.Subprotocol == protobufSubprotocol {
			o.Protocol = ProtocolProtobuf
		}
	}
	o.Protocol = cmp.Or(o.Protocol, protocols[0])
	if !slices.Contains(protocols, o.Protocol) {
		var names []string
		for _, p := range protocols {
			names = append(names, string(p))
		}
		return fmt.Errorf("--protocol %s: bench %s takes %s", o.Protocol, scenario, strings.Join(names, ", "))
	}
	return nil
}

// Allow says that a scenario has no use for what is set of the flags that not all have use for, but those named.
func (o *Options) Allow(scenario string, flags ...string) error {
	var errs []error
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"duration", o.Duration != 0},
		{"warmup", o.Warmup != 0},
		{"rate", o.Rate != 0},
		{"size", o.Size != 0},
		{"compare", o.Compare != 0},
		{"connect-rate", o.ConnectRate != 0},
		{"ramp", o.Ramp != 0},
		{"processes", o.Processes != 0},
	} {
		if f.set && !slices.Contains(flags, f.name) {
			errs = append(errs, fmt.Errorf("--%s: bench %s has no use for it", f.name, scenario))
		}
	}
	return errors.Join(errs...)
}

// maxConnections and maxProcesses bound what can be asked for.
const (
	maxConnections = 10_000_000
	maxProcesses   = 1024
	maxSize        = 16 << 20
)

// validate says what makes no sense in any scenario. It is called when the scenario's defaults are in.
func (o *Options) validate() error {
	var errs []error
	refuse := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(o.Connections < 1 || o.Connections > maxConnections, "--connections %d: want 1 to %d", o.Connections, maxConnections)
	refuse(o.Processes < 0 || o.Processes > min(maxProcesses, o.Connections), "--processes %d: want 1 to %d", o.Processes, min(maxProcesses, o.Connections))
	refuse(o.Size < 0 || o.Size > maxSize, "--size %d: want at most %d", o.Size, maxSize)
	refuse(o.Compare < 0 || o.Compare > 1000, "--compare %d: want 1 to 1000 pairs", o.Compare)
	// Not above what a float can count of nanoseconds, and no NaN.
	refuse(!(o.Rate >= 0 && o.Rate <= 1e8), "--rate %v: want at most 100,000,000 a second", o.Rate)
	refuse(!(o.ConnectRate >= 0 && o.ConnectRate <= 1e7), "--connect-rate %v: want at most 10,000,000 a second", o.ConnectRate)
	refuse(o.ConnectRate > 0 && o.Ramp > 0, "--connect-rate, --ramp: one or the other")
	for name, d := range map[string]time.Duration{
		"duration": o.Duration, "warmup": o.Warmup, "ramp": o.Ramp, "timeout": o.Timeout,
	} {
		refuse(d < 0 || d > 30*24*time.Hour, "--%s %v: want at most 30 days", name, d)
	}
	tokens := 0
	for _, given := range []bool{len(o.Tokens) > 0, len(o.TokenSecret) > 0} {
		if given {
			tokens++
		}
	}
	refuse(tokens > 1, "--token, --token-file, --token-hmac-secret-file: one of them")
	for _, h := range o.Headers {
		if err := validHeader(h); err != nil {
			errs = append(errs, err)
		}
	}
	refuse(strings.ContainsAny(o.Subprotocol+o.Origin, "\r\n"), "--subprotocol, --origin: a line break is in it")
	return errors.Join(append(errs, o.Raw.validate(o.Protocol))...)
}

// ownHeaders are the handshake's.
var ownHeaders = []string{"connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"}

func validHeader(h string) error {
	name, value, ok := strings.Cut(h, ":")
	if !ok || name == "" || strings.ContainsAny(h, "\r\n") || strings.ContainsAny(name, " \t") {
		return errors.New("--header: want NAME: VALUE") // whatever was given instead may be secret
	}
	if slices.Contains(ownHeaders, strings.ToLower(name)) {
		return fmt.Errorf("--header %s: that is the handshake's", name)
	}
	_ = value
	return nil
}

// patience is how long nothing may come while something is expected.
func (o *Options) patience() time.Duration { return cmp.Or(o.still, o.timeout()) }

func (o *Options) timeout() time.Duration { return cmp.Or(o.Timeout, 30*time.Second) }

// connectRate is how many connections are begun in a second, 0 for as many as can be.
func (o *Options) connectRate() float64 {
	if o.Ramp > 0 {
		return float64(o.Connections) / o.Ramp.Seconds()
	}
	return o.ConnectRate
}
