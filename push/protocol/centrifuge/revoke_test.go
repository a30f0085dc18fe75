package centrifuge

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/inquiry"
)

// A token that is revoked after it was checked, and before the client can be found by it, does not slip through: at none of the commands.
func TestRevokedMeanwhile(t *testing.T) {
	issued := time.Unix(1000, 0)
	a := tokens{
		identities: map[string]Identity{
			"good": {User: "ann", Token: Token{ID: "good", Issued: issued}, Subs: []ServerSubscription{{Channel: "plain:s"}}},
			"bad":  {User: "ann", Token: Token{ID: "bad", Issued: issued}, Subs: []ServerSubscription{{Channel: "plain:s"}}},
			"":     {Token: Token{}},
		},
		grants: map[string]Grant{
			"good": {Token: Token{ID: "s", Issued: issued}, Grant: inquiry.Grant{Expires: soon(time.Hour)}}, "bad": {Token: Token{ID: "bad", Issued: issued}, Grant: inquiry.Grant{Expires: soon(time.Hour)}},
		},
	}
	h := newHandler(t, Config{Authenticator: a, Revoked: func(_ string, t Token) bool { return t.ID == "bad" }})
	p := newPeer(t, h, Params{})
	p.say(`{"id":1,"connect":{"token":"bad"}}`)
	if p.ended() != "3500 invalid token" {
		t.Errorf("connect: %q", p.ended())
	}
	p.OnClose()
	p = newPeer(t, h, Params{}).connect("good")
	p.say(`{"id":2,"refresh":{"token":"bad"}}`)
	if p.ended() != "3500 invalid token" {
		t.Errorf("refresh: %q", p.ended())
	}
	p.OnClose()
	p = newPeer(t, h, Params{}).connect("good")
	p.say(`{"id":2,"subscribe":{"channel":"plain:a","token":"bad"}}`)
	p.expect(`{"id":2,"error":{"code":103,"message":"permission denied"}}`)
	p.say(`{"id":3,"subscribe":{"channel":"plain:a","token":"good"}}`)
	p.take(t)
	p.say(`{"id":4,"sub_refresh":{"channel":"plain:a","token":"bad"}}`)
	if p.ended() != "3500 invalid token" {
		t.Errorf("sub_refresh: %q", p.ended())
	}
	p.OnClose()
	newPeer(t, h, Params{}).connect("").OnClose()
	checkEmpty(t, h)
}

// After RecheckAll each client that is connected looks when it is woken, and none before.
func TestRecheckAll(t *testing.T) {
	var asked atomic.Int64
	a := tokens{identities: map[string]Identity{"ann": {User: "ann", Token: Token{Issued: time.Unix(1000, 0)}}}}
	h := newHandler(t, Config{Authenticator: a, Revoked: func(string, Token) bool { asked.Add(1); return false }})
	p := newPeer(t, h, Params{}).connect("ann")
	early := newPeer(t, h, Params{})
	asked.Store(0)
	if p.OnWake(); asked.Load() != 0 {
		t.Error("a token was looked at though nothing is revoked")
	}
	h.RecheckAll()
	late := newPeer(t, h, Params{}).connect("ann")
	asked.Store(0)
	for _, c := range []*peer{p, early, late} {
		c.OnWake()
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("%d tokens were looked at, want 2", n)
	}
	for _, c := range []*peer{p, early, late} {
		c.OnClose()
	}
	checkEmpty(t, h)
}

// A subscription's token may be held by many, and by many subscriptions of one.
func TestRevokeSubscriptionToken(t *testing.T) {
	g := Grant{Token: Token{ID: "s", Issued: time.Unix(1000, 0)}}
	a := tokens{identities: map[string]Identity{"ann": {User: "ann"}}, grants: map[string]Grant{"t": g, "other": {Token: Token{ID: "o", Issued: time.Unix(1, 0)}}}}
	h := newHandler(t, Config{Authenticator: a, Hub: newHub(t, hub.Config{Channels: hub.Options{AllowSubscribeForClient: true}})})
	peers := []*peer{newPeer(t, h, Params{}).connect("ann"), newPeer(t, h, Params{}).connect("ann")}
	for _, p := range peers {
		for _, channel := range []string{"a", "b"} {
			p.say(`{"id":2,"subscribe":{"channel":"` + channel + `","token":"t"}}`)
		}
		p.say(`{"id":3,"subscribe":{"channel":"c","token":"other"}}` + "\n" + `{"id":4,"subscribe":{"channel":"d"}}`)
		p.take(t)
	}
	done := make(chan error)
	go func() { done <- h.RevokeToken(t.Context(), "s") }()
	for waiting := true; waiting; {
		select {
		case err := <-done:
			if waiting = false; err != nil {
				t.Error(err)
			}
		default:
			for _, p := range peers {
				p.OnWake()
			}
		}
	}
	for _, p := range peers {
		p.expect(`{"push":{"channel":"a","unsubscribe":{"code":2501,"reason":"subscription expired"}}}`, `{"push":{"channel":"b","unsubscribe":{"code":2501,"reason":"subscription expired"}}}`)
		if len(p.subs) != 2 {
			t.Errorf("%d subscriptions are left", len(p.subs))
		}
		p.OnClose()
	}
	checkEmpty(t, h)
}

// Who shows bad tokens for channels again and again is sent away; good ones make up for them.
func TestTooManyBadTokens(t *testing.T) {
	a := tokens{identities: map[string]Identity{"ann": {User: "ann"}}, grants: map[string]Grant{"good": {}}, refusals: map[string]error{"old": hub.ErrTokenExpired}}
	h := newHandler(t, Config{Authenticator: a, MaxBadTokens: 3})
	p := newPeer(t, h, Params{}).connect("ann")
	show := func(token string) {
		p.say(`{"id":2,"subscribe":{"channel":"plain:a","token":"` + token + `"}}` + "\n" + `{"id":3,"unsubscribe":{"channel":"plain:a"}}`)
	}
	for _, token := range []string{"x", "x", "good", "x", "old", "old", "x"} {
		if show(token); p.ended() != "" {
			t.Fatalf("ended at %s: %s", token, p.ended())
		}
	}
	if show("x"); p.ended() != "3509 too many errors" {
		t.Errorf("ended: %q", p.ended())
	}
	p.OnClose()
	checkEmpty(t, h)
}
