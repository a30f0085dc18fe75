package push

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millpond/millpond/push/events"
	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/session"
)

// This file joins events out with the hub, the protocols and the engine.

// Events says which events a backend is told, and how.
type Events struct {
	// Kinds are the types of events that are wanted of all channels, by EventKinds, and of clients, by ClientEventKinds. Single namespaces may
	// have more of the first, by ChannelOptions.Events.
	Kinds []string
	// EventsConfig says where events go, and its bounds. Connects, Disconnects, Unsigned, Dir, Node, Version and Logger are set by New.
	EventsConfig
}

// EventsConfig is another package's type under the name by which users of the product know it.
type EventsConfig = events.Config

// EventKinds are the types of events of channels, as options of theirs.
var EventKinds = events.OfChannels

// ClientEventKinds are the types of events of clients.
var ClientEventKinds = []string{events.ClientConnected, events.ClientDisconnected}

// eventsDir is where Config.DataDir has the journals of events.
const eventsDir = "events"

// eventsConfig is that of the package.
func (c *Config) eventsConfig() events.Config {
	to := c.Events.EventsConfig
	to.Connects = slices.Contains(c.Events.Kinds, events.ClientConnected)
	to.Disconnects = slices.Contains(c.Events.Kinds, events.ClientDisconnected)
	if c.DataDir != "" {
		to.Dir = filepath.Join(c.DataDir, eventsDir)
	}
	to.Unsigned, to.Version, to.Logger = c.Dev, cmp.Or(c.Version, "unknown"), c.Logger
	return to
}

// channelEvents are those that are wanted of all channels.
func (c *Config) channelEvents() (wanted hub.Events) {
	for _, kind := range c.Events.Kinds {
		wanted |= EventKinds[kind]
	}
	return wanted
}

// validateEvents reports what is wrong with them.
func (c *Config) validateEvents() error {
	to := c.eventsConfig()
	errs := []error{to.Validate()}
	for _, kind := range c.Events.Kinds {
		if _, ok := EventKinds[kind]; !ok && !slices.Contains(ClientEventKinds, kind) {
			all := slices.Concat(slices.Sorted(maps.Keys(EventKinds)), ClientEventKinds)
			errs = append(errs, fmt.Errorf("events: %q is not one of %s", kind, strings.Join(all, ", ")))
		}
	}
	wanted := c.channelEvents() | c.Channels.Events
	for _, n := range c.Namespaces {
		wanted |= n.Events
	}
	switch {
	case !to.Enabled() && wanted != 0:
		errs = append(errs, errors.New("events: there is no events-url to send them to"))
	case to.Enabled() && wanted == 0 && !to.Connects && !to.Disconnects:
		errs = append(errs, errors.New("events-url: there are no events to send, neither by --events nor by a namespace's events"))
	}
	return errors.Join(errs...)
}

// newEvents begins to send events, if any are wanted.
func (s *Server) newEvents() (err error) {
	c := s.config.eventsConfig()
	if !c.Enabled() {
		return nil
	}
	c.Node = s.uid
	s.events, err = events.New(c)
	return err
}

// observer is who the hub tells who comes and goes; nil if nobody wants to know.
func (s *Server) observer() hub.Observer {
	if s.events == nil {
		return nil
	}
	return s.events
}

// onConnect is what the protocols call; nil if nobody wants to know.
func (s *Server) onConnect() func(client, user string) {
	if s.events == nil {
		return nil
	}
	return s.events.Connected
}

// disconnected tells that a client is gone which was connected. id makes its id, which takes memory.
func (s *Server) disconnected(id func() string, user string, why session.Status) {
	if s.events != nil {
		s.events.Disconnected(id(), user, uint16(why.Code), why.Text, why.Reason.String())
	}
}
