package handshake

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// The bounds of Config.MaxHeaderBytes.
const (
	defaultMaxHeaderBytes = 8 << 10
	leastMaxHeaderBytes   = 256
	mostMaxHeaderBytes    = 1 << 20
)

// Config is what an Upgrader is made of. The zero value works and answers every
// handshake with 404.
type Config struct {
	// Routes are the WebSocket endpoints. Each path may appear once.
	Routes []Route

	// TrustedProxies are the networks whose word on the client's address is taken. A
	// peer on a unix socket is trusted as soon as the list has an entry. Empty means
	// that the peer is the client.
	TrustedProxies []netip.Prefix

	// ForwardedHeader is the one field that the trusted proxies write: X-Forwarded-For,
	// Forwarded or X-Real-IP. The others are not looked at, because a proxy that does
	// not write them passes on what the client has put there. Empty means
	// X-Forwarded-For.
	ForwardedHeader string

	// MaxHeaderBytes bounds the request line and all fields with the blank line after
	// them, from 256 to 1 MiB. It is what a client that has not yet shown a handshake
	// can make its reader keep. Zero means 8 KiB.
	MaxHeaderBytes int
}

// Route is one WebSocket endpoint.
type Route struct {
	// Path is the exact path, compared octet by octet with the path as it was sent,
	// so that what needs percent-encoding is written encoded here.
	Path string

	// Subprotocols are those the endpoint speaks. Of several that a client offers, the
	// first that is listed here is chosen: the only order that RFC 6455 gives a
	// meaning is the client's, whose list is "ordered by preference" (§4.1). The order
	// here has none. A client that offers none, or only others, is upgraded without a
	// subprotocol.
	Subprotocols []string

	// Deflate accepts permessage-deflate. Nil declines it.
	Deflate *Deflate

	// AllowedOrigins says which browser pages may connect. Requests without an Origin
	// field and those whose origin is the request's own host and port are always
	// allowed. A pattern is one of path.Match, compared without regard to case, ports
	// included: with "://" it is matched against scheme://host[:port], without it
	// against host[:port]. "*" allows every well-formed origin; "null" the opaque one.
	// Upgrader.SetAllowedOrigins replaces them.
	AllowedOrigins []string

	// Accept, if not nil, has the last word on a handshake that is otherwise in order.
	// It runs on the goroutine that called Upgrade and must not block. What it returns
	// is Result.Data. An error that is a *Fault is answered as the Fault says, any
	// other with a 500 that does not show it.
	Accept func(*Request) (any, error)

	// Value is the caller's: an endpoint's handler and options, for instance.
	Value any
}

// SetAllowedOrigins sets Route.AllowedOrigins of the route with this path anew; the error is that of ValidateOrigins. It may be called by any
// goroutine.
func (u *Upgrader) SetAllowedOrigins(path string, patterns []string) error {
	o, problems := compileOrigins(patterns)
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	if r := u.routes[path]; r != nil {
		r.origins.Store(&o)
	}
	return nil
}

// ValidateOrigins reports every pattern of a Route's AllowedOrigins that could never match.
func ValidateOrigins(patterns []string) error {
	_, problems := compileOrigins(patterns)
	return errors.Join(problems...)
}

// Validate reports every problem of the configuration at once.
func (c Config) Validate() error {
	_, _, err := c.compile()
	return err
}

// New makes an Upgrader of a valid configuration, of which it keeps no reference
// but each Route's Accept and Value.
func New(c Config) (*Upgrader, error) {
	routes, fw, err := c.compile()
	if err != nil {
		return nil, err
	}
	u := &Upgrader{
		routes:     make(map[string]*route, len(routes)),
		forwarding: fw,
		maxHeader:  c.MaxHeaderBytes,
	}
	if u.maxHeader == 0 {
		u.maxHeader = defaultMaxHeaderBytes
	}
	for i := range routes {
		u.routes[routes[i].Path] = &routes[i]
	}
	u.attempts = sync.Pool{New: func() any { return newAttempt(u) }}
	return u, nil
}

// route is a Route, compiled.
type route struct {
	Route
	origins *atomic.Pointer[origins]
}

func (c Config) compile() ([]route, forwarding, error) {
	routes := make([]route, len(c.Routes))
	seen := make(map[string]bool, len(c.Routes))
	var problems []error
	for i, r := range c.Routes {
		var found []error
		routes[i], found = r.compile()
		if seen[r.Path] {
			found = append(found, errors.New("the path is taken by another route"))
		}
		seen[r.Path] = true
		for _, p := range found {
			problems = append(problems, fmt.Errorf("route %q: %w", r.Path, p))
		}
	}
	fw, found := c.compileForwarding()
	problems = append(problems, found...)
	if n := c.MaxHeaderBytes; n != 0 && (n < leastMaxHeaderBytes || n > mostMaxHeaderBytes) {
		problems = append(problems, fmt.Errorf("max-header-bytes: %d is not between %d and %d",
			n, leastMaxHeaderBytes, mostMaxHeaderBytes))
	}
	return routes, fw, errors.Join(problems...)
}

func (r Route) compile() (route, []error) {
	var problems []error
	t, ok := parseTarget([]byte(r.Path))
	if !ok || t.authority != nil || string(t.path) != r.Path {
		problems = append(problems, errors.New("a path begins with a slash and has only the characters of a URI's path, others percent-encoded"))
	}
	for i, s := range r.Subprotocols {
		if !isToken([]byte(s)) {
			problems = append(problems, fmt.Errorf("subprotocol %q is no token", s))
		}
		if slices.Contains(r.Subprotocols[:i], s) {
			problems = append(problems, fmt.Errorf("subprotocol %q is listed twice", s))
		}
	}
	if r.Deflate != nil {
		d := *r.Deflate
		r.Deflate = &d
		if err := d.validate(); err != nil {
			problems = append(problems, err)
		}
	}
	o, found := compileOrigins(r.AllowedOrigins)
	r.Subprotocols = slices.Clone(r.Subprotocols)
	r.AllowedOrigins = slices.Clone(r.AllowedOrigins)
	compiled := route{Route: r, origins: new(atomic.Pointer[origins])}
	compiled.origins.Store(&o)
	return compiled, append(problems, found...)
}

func (c Config) compileForwarding() (forwarding, []error) {
	var problems []error
	for _, p := range c.TrustedProxies {
		// Addresses are compared as IPv4 where they can be.
		if !p.IsValid() || p.Addr().Is4In6() {
			problems = append(problems, fmt.Errorf("trusted-proxies: %v is not a network of IPv4 or IPv6", p))
		}
	}
	field := "X-Forwarded-For"
	if c.ForwardedHeader != "" {
		field = http.CanonicalHeaderKey(c.ForwardedHeader)
	}
	switch field {
	case "X-Forwarded-For", "Forwarded", "X-Real-Ip":
	default:
		problems = append(problems, fmt.Errorf("forwarded-header: %q is not one of X-Forwarded-For, Forwarded, X-Real-IP", c.ForwardedHeader))
	}
	return forwarding{trusted: slices.Clone(c.TrustedProxies), field: field}, problems
}
