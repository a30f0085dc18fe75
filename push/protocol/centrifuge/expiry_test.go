package centrifuge

import (
	"testing"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/inquiry"
)

func soon(d time.Duration) time.Time { return time.Now().Add(d) }

func TestConnectTimeout(t *testing.T) {
	h := newHandler(t, Config{ConnectTimeout: 2 * time.Second})
	// Whatever part of a second has passed, no client is cut before its time.
	for _, fraction := range []time.Duration{0, 300 * time.Millisecond, 950 * time.Millisecond} {
		h.start = time.Now().Add(-fraction)
		p := newPeer(t, h, Params{})
		advance(h, 1900*time.Millisecond, p)
		if got := p.ended(); got != "" {
			t.Errorf("begun %v into a second: %q after 1.9 s", fraction, got)
		}
		advance(h, 1200*time.Millisecond, p)
		if got := p.ended(); got != "3502 stale" {
			t.Errorf("begun %v into a second: %q after 3.1 s", fraction, got)
		}
		p.OnClose()
	}
	p := newPeer(t, h, Params{}).connect("")
	advance(h, time.Hour, p)
	if got := p.ended(); got != "" {
		t.Errorf("connected in time, but %q", got)
	}
	p.OnClose()
	checkEmpty(t, h)
}

// A client whose connect command was refused may take its time to go, but not for ever.
func TestRefusedClientHasToGo(t *testing.T) {
	h := newHandler(t, Config{Authenticator: tokens{refusals: map[string]error{"x": hub.ErrTokenExpired}}})
	p := newPeer(t, h, Params{})
	p.say(`{"id":1,"connect":{"token":"x"}}`)
	p.expect(`{"id":1,"error":{"code":109,"message":"token expired"}}`)
	advance(h, 3*time.Second, p)
	if got := p.ended(); got != "" {
		t.Errorf("%q after 3 s", got)
	}
	advance(h, 3*time.Second, p)
	if p.ended() == "" {
		t.Error("it is still there after 6 s")
	}
	p.OnClose()
	checkEmpty(t, h)
}

func TestConnectionExpires(t *testing.T) {
	a := tokens{identities: map[string]Identity{
		"short": {User: "ann", Expires: soon(100 * time.Second)}, "long": {User: "ann", Expires: soon(time.Hour)}, "ever": {User: "ann"},
	}}
	for name, tt := range map[string]struct {
		refresh string
		quiet   time.Duration // as long as it stays
		end     time.Duration // until it goes, from there; 0 is never
	}{
		"not refreshed":       {"", 124 * time.Second, 3 * time.Second},
		"refreshed":           {"long", (3600 + 24) * time.Second, 3 * time.Second},
		"refreshed for ever":  {"ever", 100 * time.Hour, 0},
		"refreshed as before": {"short", 124 * time.Second, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHandler(t, Config{Authenticator: a})
			p := newPeer(t, h, Params{}).connect("short")
			if tt.refresh != "" {
				p.say(`{"id":2,"refresh":{"token":"` + tt.refresh + `"}}`)
			}
			advance(h, tt.quiet, p)
			if got := p.ended(); got != "" {
				t.Fatalf("%q after %v", got, tt.quiet)
			}
			if tt.end > 0 {
				advance(h, tt.end, p)
				if got := p.ended(); got != "3005 connection expired" {
					t.Errorf("%q after %v more", got, tt.end)
				}
			}
			p.OnClose()
			checkEmpty(t, h)
		})
	}
}

func expiringGrants() tokens {
	return tokens{grants: map[string]Grant{
		"short": {Grant: inquiry.Grant{Expires: soon(100 * time.Second)}}, "long": {Grant: inquiry.Grant{Expires: soon(time.Hour)}}, "ever": {}, "over": {Grant: inquiry.Grant{Expires: soon(-time.Minute)}},
	}}
}

// A client may be late with its refresh, by less than the delay.
func TestLateRefresh(t *testing.T) {
	a := tokens{identities: map[string]Identity{"short": {User: "ann", Expires: soon(100 * time.Second)}, "ever": {User: "ann"}}}
	h := newHandler(t, Config{Authenticator: a})
	p := newPeer(t, h, Params{}).connect("short")
	advance(h, 110*time.Second, p)
	p.say(`{"id":2,"refresh":{"token":"ever"}}`)
	advance(h, time.Hour, p)
	if got := p.ended(); got != "" {
		t.Error(got)
	}
	p.OnClose()
	checkEmpty(t, h)
}

// A subscription whose token is over ends, and nothing else.
func TestSubscriptionExpires(t *testing.T) {
	for name, tt := range map[string]struct {
		refresh string
		answer  string
		quiet   time.Duration
		ends    bool
	}{
		"not refreshed":      {"", "", 124 * time.Second, true},
		"refreshed":          {"long", `{"id":3,"sub_refresh":{"expires":true,"ttl":3600}}`, (3600 + 24) * time.Second, true},
		"refreshed for ever": {"ever", `{"id":3,"sub_refresh":{}}`, 100 * time.Hour, false},
		"refreshed in vain":  {"over", `{"id":3,"error":{"code":110,"message":"expired"}}`, 124 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHandler(t, Config{Authenticator: expiringGrants()})
			p := newPeer(t, h, Params{}).connect("")
			p.say(`{"id":2,"subscribe":{"channel":"plain:a","token":"short"}}` + "\n" + `{"id":3,"subscribe":{"channel":"plain:b"}}`)
			p.expect(`{"id":2,"subscribe":{"expires":true,"ttl":100}}`, `{"id":3,"subscribe":{}}`)
			if tt.refresh != "" {
				p.say(`{"id":3,"sub_refresh":{"channel":"plain:a","token":"` + tt.refresh + `"}}`)
				p.expect(tt.answer)
			}
			advance(h, tt.quiet, p)
			p.expect()
			advance(h, 3*time.Second, p)
			if tt.ends {
				p.expect(`{"push":{"channel":"plain:a","unsubscribe":{"code":2501,"reason":"subscription expired"}}}`)
			}
			publish(t, h, "plain:b", "1")
			p.expect(`{"push":{"channel":"plain:b","pub":{"data":1,"offset":1}}}`)
			if got := p.ended(); got != "" {
				t.Error(got)
			}
			p.OnClose()
			checkEmpty(t, h)
		})
	}
}

// The end of one that the server made ends the connection: the client cannot bring another token.
func TestServerSideSubscriptionExpires(t *testing.T) {
	a := tokens{identities: map[string]Identity{"ann": {User: "ann"}}}
	h := newHandler(t, Config{Authenticator: a})
	p := newPeer(t, h, Params{}).connect("ann")
	done := make(chan error)
	go func() {
		done <- h.Subscribe(t.Context(), Target{User: "ann"}, "plain:a", SubscribeOptions{Expires: soon(100 * time.Second)})
	}()
	wakeUntil(t, p, done)
	p.expect(`{"push":{"channel":"plain:a","subscribe":{}}}`)
	advance(h, 124*time.Second, p)
	if got := p.ended(); got != "" {
		t.Fatal(got)
	}
	advance(h, 3*time.Second, p)
	if got := p.ended(); got != "3006 subscription expired" {
		t.Error(got)
	}
	p.OnClose()
	checkEmpty(t, h)
}

// wakeUntil carries out what others want of p until one of them is done.
func wakeUntil(t testing.TB, p *peer, done <-chan error) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		p.OnWake()
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		case <-deadline:
			t.Fatal("it does not end")
		default:
		}
	}
}
