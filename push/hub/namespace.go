package hub

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// NamespaceBoundary ends a channel's namespace: "orders:42" is of the namespace "orders". A name without it is of none.
const NamespaceBoundary = ":"

// Options say what the channels of a namespace can do.
type Options struct {
	// HistorySize and HistoryTTL are how much of a channel's past is kept: so many publications, none older. Without both
	// nothing is.
	HistorySize int
	HistoryTTL  time.Duration

	// ForceRecovery lets every subscriber that comes back have what it missed. It needs a history.
	ForceRecovery bool

	// AllowHistoryForSubscriber lets clients ask for the history of channels that they are subscribed to;
	// AllowHistoryForClient of any.
	AllowHistoryForSubscriber bool
	AllowHistoryForClient     bool

	// ChannelRegex is what a channel's name, behind the namespace, must match. Empty allows all.
	ChannelRegex string

	regex *regexp.Regexp // of ChannelRegex
}

func (o *Options) retention() Retention { return Retention{Size: o.HistorySize, TTL: o.HistoryTTL} }

// HasHistory reports whether something of a channel's past is kept, so that it has positions that mean something later.
func (o *Options) HasHistory() bool { return o.retention().Enabled() }

// Namespace is the options of the channels whose names begin with Name and a colon.
type Namespace struct {
	Name string
	Options
}

// maxHistorySize bounds one channel's history in publications.
const maxHistorySize = 1 << 16

// namespaceName is what a namespace may be called.
var namespaceName = regexp.MustCompile(`^[-a-zA-Z0-9_.]{2,}$`)

func (o *Options) compile() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.HistorySize >= 0 && o.HistorySize <= maxHistorySize, "history_size: %d is not between 0 and %d", o.HistorySize, maxHistorySize)
	check(o.HistoryTTL >= 0, "history_ttl: %v is negative", o.HistoryTTL)
	check((o.HistorySize > 0) == (o.HistoryTTL > 0), "history_size and history_ttl: a history needs both")
	for name, set := range map[string]bool{
		"force_recovery": o.ForceRecovery, "allow_history_for_subscriber": o.AllowHistoryForSubscriber,
		"allow_history_for_client": o.AllowHistoryForClient,
	} {
		check(!set || o.HasHistory(), "%s: it needs history_size and history_ttl", name)
	}
	if o.ChannelRegex != "" {
		var err error
		o.regex, err = regexp.Compile("^(?:" + o.ChannelRegex + ")$")
		check(err == nil, "channel_regex: %w", err)
	}
	return errors.Join(errs...)
}

// namespaces finds the options of channels. Immutable.
type namespaces struct {
	base  Options // of names without a namespace, and of all if there are no namespaces
	named map[string]*Options
}

// compileNamespaces makes them ready; its error is that of ValidateNamespaces.
func compileNamespaces(base Options, list []Namespace) (*namespaces, error) {
	n := &namespaces{base: base, named: make(map[string]*Options, len(list))}
	var errs []error
	if err := n.base.compile(); err != nil {
		errs = append(errs, fmt.Errorf("channels: %w", err))
	}
	for i := range list {
		space := list[i]
		switch {
		case !namespaceName.MatchString(space.Name):
			errs = append(errs, fmt.Errorf("namespaces: %q: a name has two letters, digits or any of -_. at least", space.Name))
		case n.named[space.Name] != nil:
			errs = append(errs, fmt.Errorf("namespaces: %q: it is there twice", space.Name))
		}
		if err := space.compile(); err != nil {
			errs = append(errs, fmt.Errorf("namespaces: %q: %w", space.Name, err))
		}
		n.named[space.Name] = &space.Options
	}
	return n, errors.Join(errs...)
}

// ValidateNamespaces reports everything that is wrong, each by namespace and option.
func ValidateNamespaces(base Options, list []Namespace) error {
	_, err := compileNamespaces(base, list)
	return err
}

// Options returns those of a channel. The error wraps ErrBadRequest for a name that cannot be a channel's, ErrUnknownChannel
// for a namespace that is not configured, if any is. The name's own form is part of that: see CheckChannel.
func (h *Hub) Options(channel string) (*Options, error) {
	if err := h.CheckChannel(channel); err != nil {
		return nil, err
	}
	o, rest := &h.namespaces.base, channel
	if name, behind, ok := strings.Cut(channel, NamespaceBoundary); ok && len(h.namespaces.named) > 0 {
		if o = h.namespaces.named[name]; o == nil {
			return nil, fmt.Errorf("%w: there is no namespace %q", ErrUnknownChannel, clip(name))
		}
		rest = behind
	}
	if o.regex != nil && !o.regex.MatchString(rest) {
		return nil, fmt.Errorf("%w: channel name %q does not match %s", ErrBadRequest, clip(channel), o.ChannelRegex)
	}
	return o, nil
}

// clip shortens a client's text that is quoted back to it.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

// History returns what is kept of the channel's past, as far as q wants it. The error wraps ErrNotAvailable if nothing is
// kept, ErrUnrecoverable if q.Since is of another epoch.
func (h *Hub) History(ctx context.Context, channel string, q HistoryQuery) (History, error) {
	o, err := h.Options(channel)
	if err != nil {
		return History{}, err
	}
	if !o.HasHistory() {
		return History{}, fmt.Errorf("%w: channel %q keeps no history", ErrNotAvailable, clip(channel))
	}
	if q.Reverse && q.Since != nil && q.Since.Offset == 0 {
		return History{}, fmt.Errorf("%w: there is nothing before offset 0", ErrBadRequest)
	}
	past, err := h.config.Broker.History(ctx, channel, q)
	if err != nil {
		return History{}, fmt.Errorf("history of %q: %w", clip(channel), err)
	}
	if q.Since != nil && q.Since.Epoch != "" && q.Since.Epoch != past.Top.Epoch {
		return History{}, fmt.Errorf("%w: epoch %q of channel %q is over, it is now %q", ErrUnrecoverable, clip(q.Since.Epoch), clip(channel), past.Top.Epoch)
	}
	return past, nil
}

// RemoveHistory forgets the channel's publications, not its position.
func (h *Hub) RemoveHistory(ctx context.Context, channel string) error {
	o, err := h.Options(channel)
	if err != nil {
		return err
	}
	if !o.HasHistory() {
		return fmt.Errorf("%w: channel %q keeps no history", ErrNotAvailable, clip(channel))
	}
	if err := h.config.Broker.RemoveHistory(ctx, channel); err != nil {
		return fmt.Errorf("history of %q: %w", clip(channel), err)
	}
	return nil
}

// Recovery is what a subscriber that comes back gets first.
type Recovery struct {
	// Recovered says that Publications are all that it missed, none missing and none twice.
	Recovered    bool
	Publications []*Publication
	// From is where it then stands, Publications included: what StartAfter is to be given.
	From Position
}

// Recover finds what was published in the channel since a position, for a subscription that is not started yet: what
// arrives meanwhile is held, so that nothing is missing between the two. Of more than Config.MaxRecovered, nothing is
// recovered. A channel without history has no position, and the zero Recovery.
func (h *Hub) Recover(ctx context.Context, channel string, since Position) (Recovery, error) {
	q := HistoryQuery{Since: &since, Limit: h.config.MaxRecovered + 1}
	past, err := h.position(ctx, channel, q)
	if err != nil || past.Top.Epoch == "" {
		return Recovery{}, err
	}
	r := Recovery{From: past.Top}
	same := since.Epoch == "" || since.Epoch == past.Top.Epoch
	if same && len(past.Publications) <= h.config.MaxRecovered && continues(past.Publications, since.Offset, past.Top.Offset) {
		r.Recovered, r.Publications = true, past.Publications
	}
	return r, nil
}

// Position returns that of the channel's latest publication; the zero Position for a channel without history.
func (h *Hub) Position(ctx context.Context, channel string) (Position, error) {
	past, err := h.position(ctx, channel, HistoryQuery{})
	return past.Top, err
}

func (h *Hub) position(ctx context.Context, channel string, q HistoryQuery) (History, error) {
	o, err := h.Options(channel)
	if err != nil || !o.HasHistory() {
		return History{}, err
	}
	past, err := h.config.Broker.History(ctx, channel, q)
	if err != nil {
		return History{}, fmt.Errorf("history of %q: %w", clip(channel), err)
	}
	return past, nil
}

// continues reports whether the publications lead from one offset to the other without a gap.
func continues(publications []*Publication, from, to uint64) bool {
	if len(publications) == 0 {
		return from == to
	}
	for _, p := range publications {
		if from++; p.Offset != from {
			return false
		}
	}
	return from == to
}
