package plain

import (
	"context"
	"testing"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// passes is an Authenticator of tokens that are written down.
type passes map[string]*Identity

func (p passes) Authenticate(_ context.Context, c Credentials) (*Identity, error) {
	if i := p[c.Token]; i != nil {
		return i, nil
	}
	return nil, hub.ErrUnauthorized
}

// A connection whose token has ended is closed after the delay, unless its client logs in again as the same user.
func TestLoginExpires(t *testing.T) {
	in := func(d time.Duration) time.Time { return time.Now().Add(d) }
	a := passes{
		"short": {User: "ann", Expires: in(100 * time.Second)}, "long": {User: "ann", Expires: in(time.Hour)}, "ever": {User: "ann"},
		"bob": {User: "bob", Expires: in(time.Hour)}, "over": {User: "ann", Expires: in(-time.Second)},
	}
	const closed = "1008 login expired: log in with a new token;"
	ok := []string{`{"type":"reply","ok":true,"user":"ann"}`}
	for name, tt := range map[string]struct {
		renewals []string
		answer   []string
		quiet    time.Duration // as long as it stays
		ends     bool          // three seconds later
	}{
		"not renewed":      {nil, nil, 124 * time.Second, true},
		"renewed":          {[]string{"long"}, ok, (3600 + 24) * time.Second, true},
		"renewed, shorter": {[]string{"long", "short"}, append(ok, ok...), 124 * time.Second, true},
		"renewed for ever": {[]string{"ever"}, ok, 100 * time.Hour, false},
		"another user":     {[]string{"bob"}, []string{`{"type":"error","code":107,"message":"bad request: already logged in as another user"}`}, 124 * time.Second, true},
		"over already":     {[]string{"over"}, []string{`{"type":"error","code":110,"message":"expired: the login"}`}, 124 * time.Second, true},
		"a bad token":      {[]string{"x"}, []string{`{"type":"error","code":101,"message":"unauthorized"}`}, 124 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHandler(t, Config{Authenticator: a})
			c, w := open(h, Params{Token: "short"})
			for _, token := range tt.renewals {
				c.OnMessage(true, []byte(`{"type":"login","payload":{"token":"`+token+`"}}`))
			}
			check(t, w, tt.answer)
			before := len(h.expiries.clients[h.end(a["bob"])])
			early, _ := open(h, Params{Token: "bob"})
			early.OnClose()
			if n := len(h.expiries.clients[h.end(a["bob"])]); n != before {
				t.Error("one that went before its end is remembered")
			}
			now := uint32(0)
			pass := func(d time.Duration) {
				now += uint32(d / time.Second)
				h.tick(now)
				c.OnWake()
			}
			pass(tt.quiet)
			if w.closed != "" {
				t.Fatalf("%q after %v", w.closed, tt.quiet)
			}
			pass(3 * time.Second)
			if got := w.closed; (got == closed) != tt.ends {
				t.Errorf("%q after 3 s more", got)
			}
			c.OnClose()
			if len(h.expiries.clients) != 0 {
				t.Errorf("left: %v", h.expiries.clients)
			}
		})
	}
}
