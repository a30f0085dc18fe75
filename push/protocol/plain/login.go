package plain

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/inquiry"
	"github.com/millpond/millpond/push/protocol/roster"
)

// login is what a client keeps of its identity.
//
// There may be one for each connection: keep it at 80 bytes.
type login[F any] struct {
	// The deadlines'.
	roster.Due

	// Immutable.
	client     *Client[F]                 // nil if it is that of all anonymous clients
	token      *roster.Holder[*Client[F]] // nil if the token has no id
	text       string                     // the user, then the info in JSON
	channels   []string
	info       uint32 // where in text it begins
	issued     uint32 // when the token was, in Unix seconds; 0 is without one, 1 one that does not say
	everything bool
	invited    bool // the backend has let it in, not a token
}

func newLogin[F any](c *Client[F], i *Identity) *login[F] {
	l := &login[F]{client: c, text: i.User + string(i.Info), info: uint32(len(i.User)), channels: i.Channels, everything: i.Everything}
	if !i.Token.Issued.IsZero() {
		l.issued = uint32(min(max(i.Token.Issued.Unix(), 1), math.MaxUint32))
	}
	if c != nil {
		l.token = c.handler.tokens.Add(c, i.Token.ID)
	}
	return l
}

func (l *login[F]) user() string { return l.text[:l.info] }

// clientInfo is the bearer as others see it.
func (l *login[F]) clientInfo(client string) *hub.ClientInfo {
	info := &hub.ClientInfo{User: l.user(), Client: client}
	if int(l.info) < len(l.text) {
		info.ConnInfo = []byte(l.text[l.info:])
	}
	return info
}

// actor is the bearer as the permissions of a channel see it.
func (l *login[F]) actor(subscribed bool) hub.Actor {
	return hub.Actor{User: l.user(), Subscribed: subscribed, Everything: l.everything}
}

// authenticate logs the client in. Later logins are refreshes: they must be the same user's.
func (c *Client[F]) authenticate(credentials Credentials) error {
	h := c.handler
	if h.config.Authenticator == nil {
		return fmt.Errorf("%w: this server has no login", hub.ErrNotAvailable)
	}
	if c.loggedIn && c.login.Load().issued == 0 { // whoever showed no token has nothing to refresh
		return fmt.Errorf("%w: already logged in", hub.ErrBadRequest)
	}
	ctx, cancel := h.context()
	defer cancel()
	identity, err := h.config.Authenticator.Authenticate(ctx, credentials)
	if err != nil {
		return err
	}
	return c.enter(identity, false)
}

// enter makes an identity the client's: that of its token, or the one under which the backend invites it.
func (c *Client[F]) enter(identity *Identity, invited bool) error {
	if c.loggedIn && identity.User != c.login.Load().user() {
		return fmt.Errorf("%w: already logged in as another user", hub.ErrBadRequest)
	}
	if !identity.Expires.IsZero() && time.Until(identity.Expires) <= 0 {
		return fmt.Errorf("%w: the login", hub.ErrExpired)
	}
	c.adopt(identity, invited)
	c.know(nil, identity.Meta)
	c.empower(identity.Caps)
	if c.revoked(identity.Token) { // since it was checked; from here on those who revoke find the client
		c.close(closePolicyViolation, tokenRevoked)
		return fmt.Errorf("%w: the token is revoked", hub.ErrUnauthorized)
	}
	return nil
}

// adopt makes an identity the client's.
func (c *Client[F]) adopt(identity *Identity, invited bool) {
	h := c.handler
	first := !c.loggedIn
	c.forgetLogin()
	l := newLogin(c, identity)
	l.invited = invited
	c.loggedIn = true
	c.login.Store(l)
	if first {
		h.roster.Add(c, identity.User, 0)
		c.connected()
		for _, s := range c.subs { // from before, when it was nobody's
			s.Identified()
		}
	}
	l.endAt(identity.Expires)
}

// endAt schedules the end of the login, or the question whether it goes on; zero is never.
func (l *login[F]) endAt(expires time.Time) {
	if expires.IsZero() {
		return
	}
	h, left := l.client.handler, roster.Seconds(time.Until(expires))
	switch {
	case h.config.Backend.Refresh != nil:
		left = inquiry.RenewIn(left)
	case !l.invited: // who has a token may bring another
		left += roster.Seconds(h.config.ExpiredDelay)
	}
	h.deadlines.Set(l, h.now()+left)
}

// ended closes the connection, unless another login has come meanwhile or the backend has a say.
func (l *login[F]) ended() {
	switch c := l.client; {
	case c.closed || c.login.Load() != l:
	case c.handler.config.Backend.Refresh != nil:
		c.renew(l)
	case l.invited:
		c.close(closePolicyViolation, "login expired")
	default:
		c.close(closePolicyViolation, "login expired: log in with a new token")
	}
}

// renewed is the login with another info; nil is the one that it has.
func (l *login[F]) renewed(info []byte) *login[F] {
	out := &login[F]{
		client: l.client, token: l.token, text: l.text, channels: l.channels, info: l.info, issued: l.issued, everything: l.everything, invited: l.invited,
	}
	if info != nil {
		out.text = l.user() + string(info)
	}
	return out
}

// forgetLogin has nobody find the client by its login any more.
func (c *Client[F]) forgetLogin() {
	if l := c.login.Load(); c.loggedIn {
		c.handler.deadlines.Remove(l)
		c.handler.tokens.Remove(l.token)
	}
}

// Tick does what is due; it is called about once a second.
func (h *Handler[F]) Tick() {
	for _, l := range h.deadlines.Take(h.now()) {
		h.roster.Do(l.client, l.ended)
	}
	for _, s := range h.ends.Take(h.now()) {
		h.roster.Do(s.Client, s.ended)
	}
}

// tokenRevoked is why a connection ends.
const tokenRevoked = "token revoked"

// RevokeToken closes the connections whose token has an id. Config.Revoked must know of it before.
func (h *Handler[F]) RevokeToken(ctx context.Context, id string) error {
	return h.roster.Each(ctx, h.tokens.Of(id), func(c *Client[F]) error {
		if l := c.login.Load(); !c.closed && l != nil && h.tokens.Is(l.token, id) {
			c.close(closePolicyViolation, tokenRevoked)
		}
		return nil
	})
}

// RecheckUser closes a user's connections whose tokens are revoked now.
func (h *Handler[F]) RecheckUser(ctx context.Context, user string) error {
	return h.roster.Each(ctx, h.roster.Of(user), func(c *Client[F]) error {
		c.recheck()
		return nil
	})
}

// RecheckAll does it for all users: of each client that is woken from now on.
func (h *Handler[F]) RecheckAll() { h.recheck.Store(true) }

// recheckIfDue is recheck, once there was a RecheckAll: wakes are rare, so that nothing is kept of which client has
// looked.
func (c *Client[F]) recheckIfDue() {
	if c.handler.recheck.Load() {
		c.recheck()
	}
}

func (c *Client[F]) recheck() {
	if l := c.login.Load(); !c.closed && l != nil && l.issued != 0 && c.revoked(Token{Issued: time.Unix(int64(l.issued), 0)}) {
		c.close(closePolicyViolation, tokenRevoked)
	}
}

// revoked reports whether a token of the client's is.
func (c *Client[F]) revoked(t Token) bool {
	f := c.handler.config.Revoked
	return f != nil && !t.Issued.IsZero() && f(c.User(), t)
}
