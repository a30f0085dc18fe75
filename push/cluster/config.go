package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Method answers a question of another node: it adds the parts of its answer to out. The body is whatever the other node has
// sent. An error that is a *Refusal is told to it; of any other it learns only that there was one. It must end with ctx.
type Method func(ctx context.Context, body []byte, out *Answer) error

// Limits bound what the cluster may cost. The zero value works.
type Limits struct {
	// Heartbeat is the time between two signs of life of a node. Zero means 2 s. Timeout is that without one after which a
	// node counts as gone. Zero means 10 s; it has to be twice as long as Heartbeat, or longer.
	Heartbeat time.Duration
	Timeout   time.Duration

	// AskTimeout is how long the others have to answer a question. Zero means 3 s.
	AskTimeout time.Duration

	// MaxNodes bounds the nodes that are known. Zero means 128.
	MaxNodes int

	// MaxAnswerBytes bounds what all nodes together answer to one question. Zero means 16 MiB.
	MaxAnswerBytes int

	// MaxAsks bounds the questions under way that this node has asked, MaxServed those that it answers. Zero means 64, either.
	MaxAsks   int
	MaxServed int
}

// Config says what a Cluster is made of. Bus, UID and Logger must be set.
type Config struct {
	Bus     Bus
	UID     string // of the process: letters, digits, - and _
	Name    string // of the host
	Version string

	// Figures are told with each heartbeat, as JSON of at most 4 KiB. Nil is none.
	Figures func() json.RawMessage

	// Methods answer what other nodes ask.
	Methods map[string]Method

	Limits
	Logger *slog.Logger
}

// WithDefaults returns l with what zeros mean.
func (l Limits) WithDefaults() Limits {
	l.Heartbeat = cmp.Or(l.Heartbeat, 2*time.Second)
	l.Timeout = cmp.Or(l.Timeout, 10*time.Second)
	l.AskTimeout = cmp.Or(l.AskTimeout, 3*time.Second)
	l.MaxNodes = cmp.Or(l.MaxNodes, 128)
	l.MaxAnswerBytes = cmp.Or(l.MaxAnswerBytes, 16<<20)
	l.MaxAsks = cmp.Or(l.MaxAsks, 64)
	l.MaxServed = cmp.Or(l.MaxServed, 64)
	return l
}

// Validate reports every value that makes no sense, each by the name of its flag.
func (l Limits) Validate() error {
	var errs []error
	for name, v := range map[string]int64{
		"cluster-heartbeat": int64(l.Heartbeat), "cluster-timeout": int64(l.Timeout), "cluster-ask-timeout": int64(l.AskTimeout),
		"cluster-max-nodes": int64(l.MaxNodes), "cluster-max-answer-bytes": int64(l.MaxAnswerBytes),
		"cluster-max-asks": int64(l.MaxAsks), "cluster-max-served": int64(l.MaxServed),
	} {
		if v < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is negative", name, v))
		}
	}
	if d := l.WithDefaults(); d.Timeout < 2*d.Heartbeat {
		errs = append(errs, fmt.Errorf("cluster-timeout: %v is less than two times the cluster-heartbeat, %v", d.Timeout, d.Heartbeat))
	}
	return errors.Join(errs...)
}

// validate reports what is wrong with c.
func (c *Config) validate() error {
	errs := []error{c.Limits.Validate()}
	if c.Bus == nil || c.Logger == nil {
		errs = append(errs, errors.New("cluster: Bus or Logger is missing"))
	}
	if !isUID(c.UID) {
		errs = append(errs, fmt.Errorf("cluster: %q is no uid", c.UID))
	}
	if len(c.Name) > maxNameBytes || len(c.Version) > maxNameBytes {
		errs = append(errs, fmt.Errorf("cluster: the name or the version has more than %d bytes", maxNameBytes))
	}
	return errors.Join(errs...)
}
