package handshake

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	tokenRE = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
	hostRE  = `(?:[0-9A-Za-z._~!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?`
)

var (
	lineRE      = regexp.MustCompile("^" + tokenRE + `:[^\x00-\x08\x0a-\x1f\x7f]*$`)
	requestRE   = regexp.MustCompile(`^GET (?:(?i:https?|wss?)://(` + hostRE + `)(?:[/?][!-"$-~]*)?|/[!-"$-~]*) HTTP/1\.[1-9]$`)
	authorityRE = regexp.MustCompile("^" + hostRE + "$")
	tokensRE    = regexp.MustCompile(`^[\t ,]*` + tokenRE + `[\t ]*(?:,[\t ]*(?:` + tokenRE + `[\t ]*)?)*$`)
	protocolsRE = regexp.MustCompile(`^[\t ,]*` + tokenRE + "(?:/" + tokenRE + `)?[\t ]*(?:,[\t ]*(?:` + tokenRE + "(?:/" + tokenRE + `)?[\t ]*)?)*$`)
	zeroRE      = regexp.MustCompile(`^0+$`)
	originRE    = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*)://((?:` + hostRE + `)?)$`)
	extensionRE = "(?:" + tokenRE + `(?:[\t ]*;[\t ]*` + tokenRE + `(?:[\t ]*=[\t ]*(?:` + tokenRE + `|"(?:\\?[!#$%&'*+.^_|~0-9A-Za-z` + "`" + `-])+"))?)*[\t ]*)`
	extsRE      = regexp.MustCompile(`^[\t ,]*` + extensionRE + `(?:,[\t ]*` + extensionRE + `?)*$`)
)

// naive is Upgrade's twin: RFC 6455 §4.2.1 over net/http's own parse, strict, slow
// and without gobwas/ws. It returns nil for a handshake that deserves a 101.
func naive(raw string, c Config) error {
	if len(raw) > defaultMaxHeaderBytes {
		return fmt.Errorf("too large")
	}
	lines, ok := strings.CutSuffix(raw, "\r\n\r\n")
	if !ok {
		return fmt.Errorf("no end")
	}
	for i, line := range strings.Split(lines, "\r\n") {
		if i == 0 && !requestRE.MatchString(line) || i > 0 && !lineRE.MatchString(line) {
			return fmt.Errorf("line %d", i)
		}
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		return err
	}
	// ReadRequest has moved or removed some of the fields.
	h := http.Header{}
	for _, line := range strings.Split(lines, "\r\n")[1:] {
		name, value, _ := strings.Cut(line, ":")
		h.Add(name, strings.Trim(value, " \t"))
	}
	if err := naiveFields(h); err != nil {
		return err
	}
	return naiveRoute(r, h, c)
}

func naiveFields(h http.Header) error {
	for name, want := range map[string]int{"Host": 1, "Sec-Websocket-Key": 1, "Sec-Websocket-Version": 1} {
		if len(h[name]) != want {
			return fmt.Errorf("%d of %s", len(h[name]), name)
		}
	}
	for _, name := range []string{"Origin", "Content-Length"} {
		if len(h[name]) > 1 {
			return fmt.Errorf("%d of %s", len(h[name]), name)
		}
	}
	key, err := base64.StdEncoding.DecodeString(h.Get("Sec-Websocket-Key"))
	switch {
	case err != nil || len(key) != 16:
		return fmt.Errorf("key")
	case h.Get("Sec-Websocket-Version") != "13":
		return fmt.Errorf("version")
	case !authorityRE.MatchString(h.Get("Host")) || !naiveIPv6(h.Get("Host")):
		return fmt.Errorf("host")
	case h["Transfer-Encoding"] != nil || h["Content-Length"] != nil && !zeroRE.MatchString(h.Get("Content-Length")):
		return fmt.Errorf("body")
	}
	connection, upgrade := strings.Join(h["Connection"], ","), strings.Join(h["Upgrade"], ",")
	if !tokensRE.MatchString(connection) || !slices.ContainsFunc(naiveSplit(connection), isWord("upgrade")) {
		return fmt.Errorf("connection")
	}
	if !protocolsRE.MatchString(upgrade) || !slices.ContainsFunc(naiveSplit(upgrade), isWord("websocket")) {
		return fmt.Errorf("upgrade")
	}
	for _, v := range h["Sec-Websocket-Protocol"] {
		if !tokensRE.MatchString(v) {
			return fmt.Errorf("subprotocol")
		}
	}
	for _, v := range h["Sec-Websocket-Extensions"] {
		if !extsRE.MatchString(v) {
			return fmt.Errorf("extensions")
		}
	}
	return nil
}

func naiveRoute(r *http.Request, h http.Header, c Config) error {
	target := r.RequestURI
	host := h.Get("Host")
	if !strings.HasPrefix(target, "/") {
		_, target, _ = strings.Cut(target, "://")
		i := strings.IndexAny(target+"/", "/?")
		host, target = target[:i], target[i:]
	}
	p, _, _ := strings.Cut(target, "?")
	if p == "" {
		p = "/"
	}
	i := slices.IndexFunc(c.Routes, func(r Route) bool { return r.Path == p })
	if i < 0 {
		return fmt.Errorf("path")
	}
	if h["Origin"] != nil && !naiveOrigin(h.Get("Origin"), host, c.Routes[i].AllowedOrigins) {
		return fmt.Errorf("origin")
	}
	if accept := c.Routes[i].Accept; accept != nil {
		_, err := accept(&Request{RawQuery: r.URL.RawQuery})
		return err
	}
	return nil
}

func naiveOrigin(origin, host string, patterns []string) bool {
	if origin == "null" {
		return slices.Contains(patterns, "*") || slices.Contains(patterns, "null")
	}
	m := originRE.FindStringSubmatch(origin)
	if m == nil || len(origin) > maxOrigin || !naiveIPv6(m[2]) {
		return false
	}
	trim := func(s string) string {
		port := map[string]string{"http": ":80", "https": ":443"}[strings.ToLower(m[1])]
		return strings.ToLower(strings.TrimSuffix(s, port))
	}
	if trim(m[2]) == trim(host) {
		return true
	}
	for _, p := range patterns {
		if p = strings.ToLower(p); p == "*" {
			return true
		}
		subject := strings.ToLower(m[2])
		if strings.Contains(p, "://") {
			subject = strings.ToLower(origin)
		}
		if ok, _ := path.Match(p, subject); ok || p == subject {
			return true
		}
	}
	return false
}

// naiveIPv6 leaves the question of what is an IPv6 address to net/http's client.
func naiveIPv6(host string) bool {
	if !strings.HasPrefix(host, "[") {
		return true
	}
	_, err := http.NewRequest(http.MethodGet, "http://"+host+"/", http.NoBody)
	return err == nil
}

func naiveSplit(list string) []string {
	var all []string
	for e := range strings.SplitSeq(list, ",") {
		all = append(all, strings.Trim(e, " \t"))
	}
	return all
}

func isWord(lower string) func(string) bool {
	return func(s string) bool { return len(s) == len(lower) && strings.EqualFold(s, lower) }
}

// naiveEnd is HeaderEnd's twin.
func naiveEnd(b string) int {
	for i := range len(b) + 1 {
		if strings.HasSuffix(b[:i], "\n\n") || strings.HasSuffix(b[:i], "\n\r\n") {
			return i
		}
	}
	return -1
}
