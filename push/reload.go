package push

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/push/api"
)

// reloads counts how often the settings were read again. Any goroutine (atomic).
type reloads struct {
	done, failed atomic.Int64
	latest       atomic.Int64 // when it was done, as a Unix time; 0 is never
}

var (
	descReloads  = desc("config_reloads_total", "Times that the settings were read again, by SIGHUP.", "outcome")
	descReloaded = desc("config_reloaded_timestamp_seconds", "When they were read without a fault; 0 is never.")
)

func (r *reloads) collect(gauge emitInt, counter emitCount) {
	counter(descReloads, r.done.Load(), "done")
	counter(descReloads, r.failed.Load(), "failed")
	gauge(descReloaded, int(r.latest.Load()))
}

// Reconfigured returns c with what of next can change while a server runs. All else needs a new one.
func (c Config) Reconfigured(next Config) Config {
	c.AllowedOrigins = next.AllowedOrigins
	c.Channels, c.Namespaces = next.Channels, next.Namespaces
	c.Webhooks.Endpoints, c.Webhooks.RPCNamespaces = next.Webhooks.Endpoints, next.Webhooks.RPCNamespaces
	c.APIKeys, c.APIKeyFile, c.NamedAPIKeys = next.APIKeys, next.APIKeyFile, next.NamedAPIKeys
	c.API.RequestsPerSecond, c.API.BytesPerSecond = next.API.RequestsPerSecond, next.API.BytesPerSecond
	c.MaxChannels, c.MaxConnectionsPerUser = next.MaxChannels, next.MaxConnectionsPerUser
	c.Engine.MaxConnections, c.Engine.MaxPerAddress, c.Engine.AcceptRate = next.Engine.MaxConnections, next.Engine.MaxPerAddress, next.Engine.AcceptRate
	return c.withDefaults()
}

// Reconfigure takes over of c what can change while the server runs: see Config.Reconfigured. A c that is not valid, or does not go together with what
// cannot change, changes nothing and is an error; so does err, which says why there is no c.
//
// Clients that are connected stay, and so do their subscriptions: bounds that are lower, origins and options of channels are for those who come, and for
// what is asked and published, from then on.
func (s *Server) Reconfigure(c Config, err error) error {
	s.reconfiguring.Lock()
	defer s.reconfiguring.Unlock()
	if err == nil {
		err = c.Validate()
	}
	if err == nil {
		err = s.reconfigureLocked(c)
	}
	s.audited("reconfigure", err, slog.Int("max_connections", c.Engine.MaxConnections))
	if err != nil {
		s.reloads.failed.Add(1)
		return err
	}
	s.reloads.done.Add(1)
	s.reloads.latest.Store(time.Now().Unix())
	return nil
}

// reconfigureLocked first makes everything that may fail, and then takes all into use. reconfiguring is held.
func (s *Server) reconfigureLocked(c Config) error {
	next := s.live.Load().Reconfigured(c)
	err := next.Validate()
	if err == nil {
		err = s.sameHistories(&next)
	}
	if err != nil {
		return err
	}
	endpoints, err := s.backend.prepare(next.Webhooks)
	if err != nil {
		return err
	}
	keys, err := s.apiKeys.load(next)
	if err != nil {
		return err
	}
	s.live.Store(&next)
	s.backend.use(endpoints) // before the options of channels that name them
	errs := []error{s.hub.Reconfigure(next.channels(), next.namespaces(), next.anyNamespace()), s.useKeys(keys, next.API)}
	for _, path := range []string{plainPath, centrifugePath, echoPath} {
		errs = append(errs, s.engine.SetAllowedOrigins(path, next.AllowedOrigins))
	}
	s.plain.SetMaxChannels(next.MaxChannels)
	s.centrifuge.SetLimits(next.MaxChannels, next.MaxConnectionsPerUser)
	s.engine.SetMaxConnections(next.Engine.MaxConnections)
	s.engine.SetMaxPerAddress(next.Engine.MaxPerAddress)
	s.engine.SetAcceptRate(next.Engine.AcceptRate)
	return errors.Join(errs...) // of what has been found good above: none
}

// sameHistories reports the namespaces that would get or lose their history where the broker finds the channels with one elsewhere than those without:
// a subscriber would look for them in the wrong place.
func (s *Server) sameHistories(next *Config) error {
	if s.nats == nil {
		return nil
	}
	var errs []error
	for _, name := range s.hub.SwitchesHistory(next.channels(), next.namespaces(), next.anyNamespace()) {
		where := "channels"
		if name != "" {
			where = fmt.Sprintf("namespaces: %q", name)
		}
		errs = append(errs, fmt.Errorf("%s: history_size: with NATS, whether there is a history changes by a restart only", where))
	}
	return errors.Join(errs...)
}

// useKeys gives the API its keys and rates.
func (s *Server) useKeys(keys []api.Key, l APILimits) error {
	err := s.api.Reconfigure(keys, l.RequestsPerSecond, l.BytesPerSecond)
	if s.openAPI != nil {
		err = errors.Join(err, s.openAPI.Reconfigure(keys, l.RequestsPerSecond, l.BytesPerSecond))
	}
	if s.dashboard != nil {
		s.dashboard.Recheck()
	}
	return err
}
