package tap

import (
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"strconv"
	"strings"

	"github.com/millpond/millpond/session"
)

// Filter chooses connections: those for which all that is set holds. The zero value chooses all.
type Filter struct {
	ID      string       // of the connection, or as its protocol calls the client
	User    string       // who has logged in
	Channel string       // it is subscribed to
	Address netip.Prefix // of the client, as trusted proxies tell it for those that connect during the capture
	Path    string       // of the endpoint: /push, /connection/websocket, /echo
	Sample  int          // 1 of so many, chosen at random; 0 and 1 are all
}

// ParseAddress reads an address or a network.
func ParseAddress(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 { // clients have an address of IPv4
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// maxFilterBytes bounds each word of a filter, which the audit log has.
const maxFilterBytes = 512

// Validate reports everything that makes no sense.
func (f *Filter) Validate() error {
	var errs []error
	for _, w := range [][2]string{{"id", f.ID}, {"user", f.User}, {"channel", f.Channel}, {"path", f.Path}} {
		if len(w[1]) > maxFilterBytes {
			errs = append(errs, fmt.Errorf("%s: has more than %d bytes", w[0], maxFilterBytes))
		}
	}
	if f.Sample < 0 {
		errs = append(errs, fmt.Errorf("sample: %d is negative", f.Sample))
	}
	return errors.Join(errs...)
}

// String is the filter in words, for logs.
func (f *Filter) String() string {
	var words []string
	for _, w := range [][2]string{{"id", f.ID}, {"user", f.User}, {"channel", f.Channel}, {"path", f.Path}} {
		if w[1] != "" {
			words = append(words, w[0]+"="+strconv.Quote(w[1]))
		}
	}
	if f.Address.IsValid() {
		words = append(words, "address="+f.Address.String())
	}
	if f.Sample > 1 {
		words = append(words, "sample="+strconv.Itoa(f.Sample))
	}
	if words == nil {
		return "all"
	}
	return strings.Join(words, " ")
}

// later reports whether a connection that opens can't be judged yet.
func (f *Filter) later() bool { return f.User != "" || f.Channel != "" }

// fits reports whether what is known of a connection from its opening on fits.
func (f *Filter) fits(s *session.Session, client func() netip.Addr, seed maphash.Seed) bool {
	if f.Path != "" && s.Path() != f.Path {
		return false
	}
	if f.Address.IsValid() && !f.Address.Contains(client().Unmap().WithZone("")) {
		return false
	}
	return f.Sample <= 1 || maphash.Comparable(seed, s.ID())%uint64(f.Sample) == 0
}

// Connections finds those of a server.
type Connections interface {
	// ByID calls find for what goes by an id, ByUser for a user's connections, ByChannel for a channel's subscribers, All for all
	// that are open, until it returns false. find must not block.
	ByID(id string, find func(*session.Session) bool)
	ByUser(user string, find func(*session.Session) bool)
	ByChannel(channel string, find func(*session.Session) bool)
	All(find func(*session.Session) bool)
	// Who says whose a connection is, as far as that is known.
	Who(s *session.Session) Who
}

// Who is behind a connection.
type Who struct {
	User   string
	Client string // as the protocol calls it
}

// find returns the connections that f chooses, at most limit of them. sessions of other conditions are looked at one by one.
func (f *Filter) find(c Connections, limit int, seed maphash.Seed) (found []*session.Session) {
	fits := func(s *session.Session) bool {
		return f.fits(s, func() netip.Addr { return s.RemoteAddr().Addr() }, seed)
	}
	sets := []func(func(*session.Session) bool){}
	if f.ID != "" {
		sets = append(sets, func(find func(*session.Session) bool) { c.ByID(f.ID, find) })
	}
	if f.User != "" {
		sets = append(sets, func(find func(*session.Session) bool) { c.ByUser(f.User, find) })
	}
	if f.Channel != "" {
		sets = append(sets, func(find func(*session.Session) bool) { c.ByChannel(f.Channel, find) })
	}
	if len(sets) == 0 {
		sets = append(sets, c.All)
	}
	var in map[*session.Session]bool // of all sets but the last
	for _, set := range sets[:len(sets)-1] {
		next := map[*session.Session]bool{}
		set(func(s *session.Session) bool {
			if in == nil || in[s] {
				next[s] = true
			}
			return true
		})
		in = next
	}
	seen := map[*session.Session]bool{}
	sets[len(sets)-1](func(s *session.Session) bool {
		if (in == nil || in[s]) && !seen[s] && fits(s) {
			seen[s] = true
			found = append(found, s)
		}
		return len(found) < limit
	})
	return found
}
