package hub

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// What is special in a channel's name.
const (
	// NamespaceBoundary ends a channel's namespace: "orders:42" is of the namespace "orders". A name without it is of none.
	NamespaceBoundary = ":"
	// PrivatePrefix begins the name of a channel for which a token is needed; it is not part of the namespace.
	PrivatePrefix = "$"
	// UserBoundary begins the list of users of a user-limited channel: "orders:dispute#42,43". UserSeparator is between them.
	UserBoundary  = "#"
	UserSeparator = ","
)

// Namespace is the options of the channels whose names begin with Name and a colon.
type Namespace struct {
	Name string
	Options
}

// namespaceName is what a namespace may be called.
var namespaceName = regexp.MustCompile(`^[-a-zA-Z0-9_.]{2,}$`)

// namespaces finds the options of channels. Immutable.
type namespaces struct {
	base   Options // of names without a namespace
	named  map[string]*Options
	any    bool // base is also for namespaces that are not there
	deltas bool // any of them has deltas, or had before Reconfigure

	events, formerly Events // of all of them together, now and before Reconfigure
}

// compileNamespaces makes them ready; its error is that of ValidateNamespaces.
func compileNamespaces(base Options, list []Namespace) (*namespaces, error) {
	n := &namespaces{base: base, named: make(map[string]*Options, len(list)), deltas: base.AllowFossilDelta, events: base.Events}
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
		n.deltas = n.deltas || space.AllowFossilDelta
		n.events |= space.Events
	}
	return n, errors.Join(errs...)
}

// ValidateNamespaces reports everything that is wrong, each by namespace and option.
func ValidateNamespaces(base Options, list []Namespace) error {
	_, err := compileNamespaces(base, list)
	return err
}

// Reconfigure replaces the options of all channels, of those that there are, too: what is asked and published from now on goes by the new
// ones. Subscriptions stay, and keep what was agreed on when they began. The error is that of ValidateNamespaces, and nothing has changed then.
//
// Whether a channel keeps any history must not change while it has subscribers, unless the broker does not mind: see SwitchesHistory.
func (h *Hub) Reconfigure(base Options, list []Namespace, anyNamespace bool) error {
	next, err := compileNamespaces(base, list)
	if err != nil {
		return err
	}
	before := h.namespaces.Load()
	next.any = anyNamespace
	next.deltas = next.deltas || before.deltas
	next.formerly = before.formerly | before.events
	h.namespaces.Store(next)
	return nil
}

// SwitchesHistory returns the names of the namespaces, "" for none, whose channels may be there and would begin or cease to keep any history.
func (h *Hub) SwitchesHistory(base Options, list []Namespace, anyNamespace bool) (names []string) {
	before := h.namespaces.Load()
	next, err := compileNamespaces(base, list)
	if err != nil {
		return nil
	}
	known := map[string]bool{"": true}
	for name := range before.named {
		known[name] = true
	}
	if before.any { // there may be channels of any
		for name := range next.named {
			known[name] = true
		}
	}
	for name := range known {
		if before.of(name).HasHistory() != next.of(name).HasHistory() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// of returns the options of a namespace's channels.
func (n *namespaces) of(name string) *Options {
	if named := n.named[name]; named != nil {
		return named
	}
	return &n.base
}

// find returns the options of a channel that there is: its name has been found good.
func (n *namespaces) find(channel string) *Options {
	name, _, ok := strings.Cut(strings.TrimPrefix(channel, PrivatePrefix), NamespaceBoundary)
	if !ok {
		return &n.base
	}
	return n.of(name)
}

// Options returns those of a channel. The error wraps ErrBadRequest for a name that cannot be a channel's, ErrUnknownChannel
// for a namespace that is not configured. The name's own form is part of that: see CheckChannel.
func (h *Hub) Options(channel string) (*Options, error) {
	if err := h.CheckChannel(channel); err != nil {
		return nil, err
	}
	rest := strings.TrimPrefix(channel, PrivatePrefix)
	all := h.namespaces.Load()
	o := &all.base
	if name, behind, ok := strings.Cut(rest, NamespaceBoundary); ok {
		switch named := all.named[name]; {
		case named != nil:
			o, rest = named, behind
		case !all.any:
			return nil, fmt.Errorf("%w: there is no namespace %q", ErrUnknownChannel, clip(name))
		}
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
