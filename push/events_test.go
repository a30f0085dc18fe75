package push

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/internal/eventsink"
	"github.com/millpond/millpond/push/events"
)

// withEvents is a server that tells sink everything.
func withEvents(t *testing.T, sink *eventsink.Sink, change func(*Config)) *Server {
	t.Helper()
	c := Config{
		Dev: true, DataDir: t.TempDir(),
		Events: Events{
			Kinds: []string{
				events.ChannelOccupied, events.ChannelVacated, events.MemberJoined, events.MemberLeft,
				events.ClientConnected, events.ClientDisconnected, events.CacheMiss,
			},
			EventsConfig: EventsConfig{URL: sink.URL, Secrets: [][]byte{secret}, Delay: -1, Debounce: 10 * time.Millisecond},
		},
	}
	if change != nil {
		change(&c)
	}
	return startServer(t, c)
}

// told are the events that came, without what is different each time, sorted.
func told(sink *eventsink.Sink) (list []string) {
	for _, e := range sink.Events() {
		line := strings.Join(strings.Fields(fmt.Sprintf("%s %s %s", e.Type, e.Channel, e.User)), " ")
		if e.Code != 0 {
			line += fmt.Sprintf(" %d %q %s", e.Code, e.Reason, e.Cause)
		}
		list = append(list, line)
	}
	slices.Sort(list)
	return list
}

func waitTold(t *testing.T, sink *eventsink.Sink, want ...string) {
	t.Helper()
	slices.Sort(want)
	sink.Wait(t, strings.Join(want, "\n"), func() bool {
		if got := told(sink); len(got) >= len(want) && !slices.Equal(got, want) {
			t.Fatalf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return slices.Equal(told(sink), want)
	})
	if err := sink.Faults(); err != nil {
		t.Error(err)
	}
}

func TestEventsOfPlainClients(t *testing.T) {
	sink := eventsink.Start(t, secret)
	s := withEvents(t, sink, nil)
	c := dial(t, s.ws("/push?channels=a"))
	next(t, c)
	send(t, c, `{"type":"login","payload":{"username":"ann"}}`) // it becomes a member of the channel in which it is
	next(t, c)
	send(t, c, `{"type":"subscribe","payload":{"channel":"b"}}`)
	next(t, c)
	if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Fatal(err)
	}
	waitTold(t, sink,
		"client_connected", "channel_occupied a", "member_joined a ann", "channel_occupied b", "member_joined b ann",
		"member_left a ann", "channel_vacated a", "member_left b ann", "channel_vacated b", `client_disconnected ann 1000 "bye" client_close`)
}

func TestEventsOfCentrifugeClients(t *testing.T) {
	sink := eventsink.Start(t, secret)
	s := withEvents(t, sink, func(c *Config) {
		c.TokenSecret, c.PersonalChannels = secret, true
		c.Namespaces = []Namespace{{Name: "cache", Options: ChannelOptions{
			HistorySize: 1, HistoryTTL: time.Hour, ForceRecovery: true, RecoverLatest: true,
		}}}
	})
	c := dial(t, s.ws("/connection/websocket"))
	send(t, c, fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, token(t, jwt.MapClaims{"sub": "ann"})))
	next(t, c)
	send(t, c, `{"id":2,"subscribe":{"channel":"cache:x","recover":true}}`)
	next(t, c)
	send(t, c, `{"id":3,"subscribe":{"channel":"a","delta":"none"}}`) // a fault: 3501
	begun := []string{
		"client_connected ann", "channel_occupied #ann", "member_joined #ann ann", "channel_occupied cache:x", "member_joined cache:x ann",
		"cache_miss cache:x", "member_left #ann ann", "channel_vacated #ann", "member_left cache:x ann", "channel_vacated cache:x",
	}
	waitTold(t, sink, append(begun, `client_disconnected ann 3501 "bad request" server_close`)...)

	// One that is refused was never there.
	refused := dial(t, s.ws("/connection/websocket"))
	send(t, refused, `{"id":1,"connect":{"token":"nonsense"}}`)
	if _, _, err := refused.Read(t.Context()); err == nil {
		t.Fatal("a bad token was accepted")
	}
	_ = refused.CloseNow()
	sink.Wait(t, "metrics", func() bool { // the last acknowledgement is on its way
		st, body := request(t, "GET", s.internalURL("/metrics"), "")
		return st == 200 && strings.Contains(body, "millpond_events_sent_total 11\n") && strings.Contains(body, `millpond_events_attempts_total{outcome="acknowledged"}`)
	})
	waitTold(t, sink, append(begun, `client_disconnected ann 3501 "bad request" server_close`)...)
}

// A namespace may have events that others have not; no others are told.
func TestEventsOfNamespaces(t *testing.T) {
	sink := eventsink.Start(t, secret)
	s := withEvents(t, sink, func(c *Config) {
		c.Events.Kinds = nil
		c.Namespaces = []Namespace{
			{Name: "rooms", Options: ChannelOptions{Events: EventKinds[events.ChannelOccupied] | EventKinds[events.ChannelVacated]}},
			{Name: "quiet"},
		}
	})
	c := dial(t, s.ws("/push?channels=quiet:a,none,rooms:1"))
	next(t, c)
	_ = c.CloseNow()
	waitTold(t, sink, "channel_occupied rooms:1", "channel_vacated rooms:1")
}

// The end of the server is the end of its clients, which is told before it ends.
func TestEventsAtShutdown(t *testing.T) {
	sink := eventsink.Start(t, secret)
	s := withEvents(t, sink, func(c *Config) { c.Events.Debounce = time.Minute })
	c := dial(t, s.ws("/push?channels=a"))
	next(t, c)
	closed := make(chan error, 1)
	go func() {
		_, _, err := c.Read(t.Context())
		closed <- err
	}()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-closed
	want := []string{"channel_occupied a", "channel_vacated a", "client_connected", `client_disconnected 1001 "server is shutting down" shutdown`}
	if got := told(sink); !slices.Equal(got, want) || sink.Faults() != nil {
		t.Errorf("told %q, faults %v", got, sink.Faults())
	}
}

func TestEventsConfiguration(t *testing.T) {
	url := EventsConfig{URL: "http://127.0.0.1:1/", Secrets: [][]byte{secret}}
	for _, tt := range []struct {
		name   string
		config Config
		want   string
	}{
		{"good", Config{Dev: true, Listen: []string{"127.0.0.1:0"}, InternalListen: "127.0.0.1:0", Events: Events{Kinds: []string{"client_connected"}, EventsConfig: url}}, ""},
		{"unknown", Config{Dev: true, Events: Events{Kinds: []string{"client_leaves"}, EventsConfig: url}}, `events: "client_leaves" is not one of`},
		{"nowhere", Config{Dev: true, Events: Events{Kinds: []string{"channel_occupied"}}}, "no events-url"},
		{"nowhere, of a namespace", Config{Dev: true, Namespaces: []Namespace{{Name: "ab", Options: ChannelOptions{Events: 1}}}}, "no events-url"},
		{"none", Config{Dev: true, Events: Events{EventsConfig: url}}, "events-url: there are no events to send"},
		{"no cache", Config{Dev: true, Channels: ChannelOptions{Events: EventKinds["cache_miss"]}, Events: Events{EventsConfig: url}}, "force_recovery_mode"},
		{"a data-dir that cannot be", Config{Dev: true, DataDir: "/dev/null/x", Listen: []string{"127.0.0.1:0"}, InternalListen: "127.0.0.1:0", Events: Events{Kinds: []string{"client_connected"}, EventsConfig: url}}, "data-dir"},
	} {
		s, err := New(tt.config)
		if s != nil {
			_ = s.discard()
		}
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
