package hub

import (
	"errors"
	"fmt"
	"regexp"
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
	deltas bool // any of them has deltas
}

// compileNamespaces makes them ready; its error is that of ValidateNamespaces.
func compileNamespaces(base Options, list []Namespace) (*namespaces, error) {
	n := &namespaces{base: base, named: make(map[string]*Options, len(list)), deltas: base.AllowFossilDelta}
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
	}
	return n, errors.Join(errs...)
}

// ValidateNamespaces reports everything that is wrong, each by namespace and option.
func ValidateNamespaces(base Options, list []Namespace) error {
	_, err := compileNamespaces(base, list)
	return err
}

// find returns the options of a channel that there is: its name has been found good.
func (n *namespaces) find(channel string) *Options {
	name, _, ok := strings.Cut(strings.TrimPrefix(channel, PrivatePrefix), NamespaceBoundary)
	if named := n.named[name]; ok && named != nil {
		return named
	}
	return &n.base
}

// Options returns those of a channel. The error wraps ErrBadRequest for a name that cannot be a channel's, ErrUnknownChannel
// for a namespace that is not configured. The name's own form is part of that: see CheckChannel.
func (h *Hub) Options(channel string) (*Options, error) {
	if err := h.CheckChannel(channel); err != nil {
		return nil, err
	}
	rest := strings.TrimPrefix(channel, PrivatePrefix)
	o := &h.namespaces.base
	if name, behind, ok := strings.Cut(rest, NamespaceBoundary); ok {
		switch named := h.namespaces.named[name]; {
		case named != nil:
			o, rest = named, behind
		case !h.config.AnyNamespace:
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
