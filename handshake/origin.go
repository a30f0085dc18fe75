package handshake

import (
	"bytes"
	"fmt"
	"path"
	"strings"
)

// maxOrigin bounds the origins looked at, in bytes: a host name has 255 at most.
const maxOrigin = 512

// origins is a Route's AllowedOrigins, compiled. Immutable.
type origins struct {
	all   bool
	null  bool     // the opaque origin
	hosts []string // patterns of host[:port], in lower case
	whole []string // patterns of scheme://host[:port], in lower case
}

// compileOrigins reads the patterns, and reports each that could never match.
func compileOrigins(patterns []string) (o origins, problems []error) {
	for _, p := range patterns {
		scheme, host, whole := strings.Cut(p, "://")
		if !whole {
			host = p
		}
		switch _, err := path.Match(p, ""); {
		case p == "*":
			o.all = true
		case p == "null":
			o.null = true
		case p == "" || whole && scheme == "":
			problems = append(problems, fmt.Errorf("allowed-origins: %q is empty or has an empty scheme", p))
		case err != nil:
			problems = append(problems, fmt.Errorf("allowed-origins: %q: %w", p, err))
		case strings.Contains(host, "/"):
			problems = append(problems, fmt.Errorf("allowed-origins: %q: an origin has no path and no slash at its end", p))
		case whole:
			o.whole = append(o.whole, strings.ToLower(p))
		default:
			o.hosts = append(o.hosts, strings.ToLower(p))
		}
	}
	return o, problems
}

// allow reports whether a request with this Origin field, nil if it has none, to
// this host may be upgraded.
//
// RFC 6455 §4.2.2: "If the server does not validate the origin, it will
// accept connections from anywhere. If the server does not wish to accept this
// connection, it MUST return an appropriate HTTP error code (e.g., 403 Forbidden)".
func (o *origins) allow(origin, host []byte) bool {
	if origin == nil {
		return true // no browser
	}
	if string(origin) == "null" {
		return o.all || o.null
	}
	scheme, authority, ok := parseOrigin(origin)
	if !ok {
		return false
	}
	if o.all || sameHost(scheme, authority, host) {
		return true
	}
	if len(o.hosts)+len(o.whole) == 0 {
		return false
	}
	lower := strings.ToLower(string(origin))
	return matchAny(o.whole, lower) || matchAny(o.hosts, lower[len(scheme)+len("://"):])
}

// parseOrigin reads scheme "://" host [":" port]. The host may be empty, as in
// "file://"; it can't be the request's then.
func parseOrigin(b []byte) (scheme, authority []byte, ok bool) {
	if len(b) > maxOrigin {
		return nil, nil, false
	}
	scheme, authority, ok = bytes.Cut(b, []byte("://"))
	if !ok || len(scheme) == 0 || (len(authority) > 0 && !isAuthority(authority)) {
		return nil, nil, false
	}
	for i, c := range scheme {
		letter := toLower(c) >= 'a' && toLower(c) <= 'z'
		other := c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.'
		if !letter && (i == 0 || !other) {
			return nil, nil, false
		}
	}
	return scheme, authority, true
}

// sameHost compares the origin's host and port with the request's. A browser leaves
// the scheme's own port out of both; a proxy may have put it into Host.
func sameHost(scheme, authority, host []byte) bool {
	defaultPort := ""
	switch {
	case equalFold(scheme, "https"):
		defaultPort = ":443"
	case equalFold(scheme, "http"):
		defaultPort = ":80"
	}
	return bytes.EqualFold(cutSuffix(authority, defaultPort), cutSuffix(host, defaultPort))
}

func cutSuffix(b []byte, suffix string) []byte {
	if n := len(b) - len(suffix); n >= 0 && string(b[n:]) == suffix {
		return b[:n]
	}
	return b
}

// matchAny reports whether s is one of patterns or matches one. Equality comes
// first for the sake of "[::1]:8000", which is a character class to path.Match.
func matchAny(patterns []string, s string) bool {
	for _, p := range patterns {
		if p == s {
			return true
		}
		if ok, err := path.Match(p, s); ok && err == nil {
			return true
		}
	}
	return false
}
