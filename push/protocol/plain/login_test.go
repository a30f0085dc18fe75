package plain

import (
	"context"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/millpond/millpond/push/hub"
)

// identities is an Authenticator of tokens that are names.
type identities map[string]*Identity

// Authenticate implements Authenticator.
func (i identities) Authenticate(_ context.Context, c Credentials) (*Identity, error) {
	if id := i[c.Token]; id != nil {
		return id, nil
	}
	return nil, hub.ErrUnauthorized
}

func TestLoginIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(login[*string]{}); n > 80 {
		t.Errorf("a login takes %d bytes, want at most 80: there may be one for each connection", n)
	}
}

// A connection outlives its token by 25 s, for the client to log in again: as the same user.
func TestTokenExpires(t *testing.T) {
	issued := Token{Issued: time.Unix(1000, 0)}
	soon := func() time.Time { return time.Now().Add(100 * time.Second) }
	a := identities{
		"soon": {User: "ann", Expires: soon(), Token: issued}, "ever": {User: "ann", Token: issued}, "other": {User: "bob", Token: issued},
		"over": {User: "ann", Expires: time.Now().Add(-time.Second), Token: issued}, "later": {User: "ann", Expires: soon().Add(time.Hour), Token: issued},
	}
	for _, tt := range []struct {
		name, then string // the token of a second login
		answer     string
		at         time.Duration
		closed     bool
	}{
		{"before", "", "", 120 * time.Second, false},
		{"after", "", "", 130 * time.Second, true},
		{"renewed for ever", "ever", `"ok":true`, time.Hour, false},
		{"renewed", "later", `"ok":true`, time.Hour, false},
		{"renewed, and over", "later", `"ok":true`, 2 * time.Hour, true},
		{"another user", "other", "another user", 130 * time.Second, true},
		{"a bad one", "bad", "unauthorized", 130 * time.Second, true},
		{"one that is over", "over", "expired", 130 * time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHandler(t, Config{Authenticator: a})
			c, w := open(h, Params{Token: "soon"})
			if tt.then != "" {
				c.OnMessage(true, []byte(`{"type":"login","payload":{"token":"`+tt.then+`"}}`))
				if len(w.sent) != 1 || !strings.Contains(w.sent[0], tt.answer) {
					t.Errorf("answered %s", w.sent)
				}
			}
			h.start = h.start.Add(-tt.at)
			h.Tick()
			c.OnWake()
			if closed := w.closed != ""; closed != tt.closed || closed && !strings.Contains(w.closed, "login expired") {
				t.Errorf("closed: %q", w.closed)
			}
			c.OnClose()
			if n := h.deadlines.Len(); n != 0 {
				t.Errorf("%d deadlines are left", n)
			}
		})
	}
}

// A token that is revoked between its check and the login, in which the client can be found, does not slip through.
func TestRevokedMeanwhile(t *testing.T) {
	a := identities{"t": {User: "ann", Token: Token{ID: "id", Issued: time.Unix(1000, 0)}}, "none": {User: "ann"}}
	a["early"] = &Identity{User: "ann", Token: Token{ID: "other", Issued: time.Unix(1000, 0)}}
	h := newHandler(t, Config{Authenticator: a, Revoked: func(user string, t Token) bool { return user == "ann" && t.ID == "id" }})
	c, w := open(h, Params{Token: "t"})
	if !strings.Contains(w.closed, "login failed") {
		t.Errorf("closed: %q, sent %s", w.closed, w.sent)
	}
	c.OnClose()
	if n := h.tokens.Len(); n != 0 {
		t.Errorf("%d tokens are left", n)
	}
	for _, first := range []string{"", "early"} { // a login, and a refresh
		c, w = open(h, Params{Token: first})
		c.OnMessage(true, []byte(`{"type":"login","payload":{"token":"t"}}`))
		if !strings.Contains(w.closed, "1008 token revoked") {
			t.Errorf("after %q closed: %q, sent %s", first, w.closed, w.sent)
		}
		c.OnClose()
	}
	c, w = open(h, Params{Token: "none"})
	if w.closed != "" {
		t.Errorf("who showed nothing that can be revoked was closed: %q", w.closed)
	}
	c.OnClose()
}

// A login that comes between the end of the old token and the client's turn counts.
func TestLoginInTheLastMoment(t *testing.T) {
	issued := Token{Issued: time.Unix(1000, 0)}
	a := identities{"soon": {User: "ann", Expires: time.Now().Add(100 * time.Second), Token: issued}, "ever": {User: "ann", Token: issued}}
	h := newHandler(t, Config{Authenticator: a})
	c, w := open(h, Params{Token: "soon"})
	h.start = h.start.Add(-time.Hour)
	h.Tick()
	c.OnMessage(true, []byte(`{"type":"login","payload":{"token":"ever"}}`))
	c.OnWake()
	if w.closed != "" {
		t.Errorf("closed: %q", w.closed)
	}
	c.OnClose()
}
