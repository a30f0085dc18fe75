package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/millpond/millpond/push/broker/memory"
	"github.com/millpond/millpond/push/broker/nats"
	"github.com/millpond/millpond/push/broker/nats/embedded"
	"github.com/millpond/millpond/push/hub"
)

// This file chooses the broker and joins it with its server and connection.

// NATS says whether, and how, publications go over NATS. Its zero value keeps them in this process's memory.
type NATS struct {
	// Embedded runs a server in this process, in a directory of Config.DataDir.
	Embedded bool
	// Server is about that one. Dir, Node and Logger are set by New.
	Server NATSServer
	// Link says how servers of others are reached, by its URLs. Server, Node and Logger are set by New.
	Link NATSLink
	// Broker has the bounds. Link, MaxHistorySize, MaxAge, StoreBytes, RingBytes, RingChannels, Renew, Renewed, Member, Trouble, Follow and Logger are set by New.
	Broker NATSBroker
}

// NATSServer is another package's type under the name by which users of the product know it.
type NATSServer = embedded.Config

// NATSLink is another package's type under the name by which users of the product know it.
type NATSLink = nats.LinkConfig

// NATSBroker is another package's type under the name by which users of the product know it.
type NATSBroker = nats.Config

// NATSTLS has the files of certificates for NATSLink.
type NATSTLS = nats.TLS

// Enabled reports whether publications go over NATS.
func (n NATS) Enabled() bool { return n.Embedded || len(n.Link.URLs) > 0 }

// natsDir is where Config.DataDir has the server's data.
const natsDir = "nats"

// natsConfig is c.NATS with what follows from the rest of the configuration.
func (c *Config) natsConfig() NATS {
	n := c.NATS
	if c.DataDir != "" {
		n.Server.Dir = filepath.Join(c.DataDir, natsDir)
	}
	n.Server.Node, n.Link.Node = c.Cluster.Name, c.Cluster.Name
	n.Broker.StoreBytes = n.Server.StoreBytes
	n.Broker.RingBytes, n.Broker.RingChannels = c.History.MaxHistoryBytes, c.History.MaxStreams
	n.Broker.MaxAge = cmp.Or(c.History.PositionTTL, 24*time.Hour)
	options := []hub.Options{c.channels()}
	for _, space := range c.namespaces() {
		options = append(options, space.Options)
	}
	for _, o := range options {
		n.Broker.MaxHistorySize = max(n.Broker.MaxHistorySize, o.HistorySize)
		n.Broker.MaxAge = max(n.Broker.MaxAge, o.HistoryTTL)
	}
	if n.Broker.Replicas == 0 && n.Server.ClusterName != "" {
		n.Broker.Replicas = 3
	}
	return n
}

// validateNATS reports what is wrong with it.
func (c *Config) validateNATS() error {
	n := c.natsConfig()
	if !n.Enabled() {
		if n.Server.ClusterName != "" || len(n.Server.ClusterRoutes) > 0 {
			return errors.New("cluster-name: it needs nats-embedded")
		}
		return nil
	}
	errs := []error{n.Broker.Validate()}
	if n.Embedded {
		errs = append(errs, n.Server.Validate())
		if len(n.Link.URLs) > 0 {
			errs = append(errs, errors.New("nats-url: give it, or nats-embedded, and not both"))
		}
		if c.Takeover != "" {
			errs = append(errs, errors.New("takeover: with nats-embedded the data belongs to one process; take turns, or give a nats-url"))
		}
		return errors.Join(errs...)
	}
	if n.Server.ClusterName != "" || len(n.Server.ClusterRoutes) > 0 {
		errs = append(errs, errors.New("cluster-name: it is for nats-embedded; the servers of nats-url have their own"))
	}
	return errors.Join(append(errs, n.Link.Validate())...)
}

// broker is what the server needs of one.
type broker interface {
	hub.Broker
	// Expire forgets what is too old. It is called once a second.
	Expire()
}

// natsSide is the broker on NATS with what it stands on.
type natsSide struct {
	server *embedded.Server // nil for servers of others
	link   *nats.Link
	broker *nats.Broker
}

// giveUpTimeout bounds the end of what was begun when the server cannot start.
const giveUpTimeout = 10 * time.Second

// newBroker makes the broker.
func (s *Server) newBroker() (err error) {
	n := s.config.natsConfig()
	if !n.Enabled() {
		s.memory = memory.New(s.config.History)
		s.broker = s.memory
		return nil
	}
	logger := s.repeats.Logger()
	n.Server.Logger, n.Link.Logger, n.Broker.Logger = logger, logger, logger
	side := &natsSide{}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.Background(), giveUpTimeout)
			defer cancel()
			err = errors.Join(err, side.close(ctx))
		}
	}()
	if n.Embedded {
		if side.server, err = embedded.Start(n.Server); err != nil {
			return err
		}
		n.Link.Server, n.Link.Node = side.server, side.server.Node()
		if n.Broker.Replicas <= 1 { // else the others take what this one cannot
			n.Broker.Trouble = side.server.Trouble
		}
		if n.Server.ClusterName != "" {
			n.Broker.Member = side.server.Node()
		}
		n.Broker.Renew, n.Broker.Renewed = side.server.Suspect(), side.server.Settled
	}
	if side.link, err = nats.Open(n.Link); err != nil {
		return err
	}
	n.Broker.Link = side.link
	if s.tracer != nil {
		n.Broker.Follow = s.tracer.Arrived
	}
	if side.broker, err = nats.New(context.Background(), n.Broker); err != nil {
		return fmt.Errorf("push: %w", err)
	}
	if side.server != nil {
		if err := side.server.Namesake(); err != nil { // which the others know that are connected by now
			return err
		}
	}
	s.nats, s.broker = side, side.broker
	return s.joinByNATS(n)
}

// joinByNATS lets nodes hear of each other by the broker's connection, unless there is another way.
func (s *Server) joinByNATS(n NATS) (err error) {
	c := &s.config.Cluster
	if c.Bus == nil {
		c.Bus = nats.NewBus(s.nats.link)
	}
	if c.Log == nil {
		c.Log, err = nats.NewRecords(s.nats.link, "revocations", n.Broker.Replicas, cmp.Or(s.config.MaxRevocations, 100_000))
	}
	return err
}

// close ends what there is, from the top down. It may be called twice.
func (n *natsSide) close(ctx context.Context) error {
	var errs []error
	if n.broker != nil {
		n.broker.Close()
		n.broker = nil
	}
	if n.link != nil {
		errs = append(errs, n.link.Close(ctx))
		n.link = nil
	}
	if n.server != nil {
		errs = append(errs, n.server.Shutdown(ctx))
		n.server = nil
	}
	return errors.Join(errs...)
}

func (s *Server) closeBroker(ctx context.Context) error {
	defer s.repeats.Close() // behind the last line of the broker's
	if s.nats == nil {
		return nil
	}
	side := *s.nats // others may ask for figures still
	return side.close(ctx)
}
