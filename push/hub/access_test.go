package hub_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/millpond/millpond/push/hub"
)

var (
	ann        = hub.Actor{User: "ann"}
	annInside  = hub.Actor{User: "ann", Subscribed: true}
	nobody     = hub.Actor{}
	inside     = hub.Actor{Subscribed: true}
	everything = hub.Actor{Everything: true}
)

func TestMaySubscribe(t *testing.T) {
	closed, users, all := hub.Options{}, hub.Options{AllowSubscribeForClient: true}, hub.Options{AllowSubscribeForClient: true, AllowSubscribeForAnonymous: true}
	limited := hub.Options{AllowUserLimitedChannels: true}
	openLimited := hub.Options{AllowSubscribeForClient: true, AllowSubscribeForAnonymous: true, AllowUserLimitedChannels: true}
	for _, tt := range []struct {
		options hub.Options
		channel string
		actor   hub.Actor
		want    bool
	}{
		{closed, "a", ann, false},
		{closed, "a", nobody, false},
		{closed, "a", annInside, false},
		{closed, "a", everything, true},
		{closed, "$a", everything, true},
		{hub.Options{AllowSubscribeForAnonymous: true}, "a", nobody, false}, // anonymous ones as well as clients
		{users, "a", ann, true},
		{users, "a", nobody, false},
		{users, "$a", ann, false},
		{users, "space:$a", ann, true}, // the prefix is the name's, not the rest's
		{users, "a#bob", ann, true},    // no list where there are none
		{all, "a", nobody, true},
		{all, "$a", nobody, false},
		{limited, "a", ann, false},
		{limited, "a#ann", ann, true},
		{limited, "a#bob,ann", ann, true},
		{limited, "space:a#ann,bob", ann, true},
		{limited, "#ann", ann, true},
		{limited, "a#bob", ann, false},
		{limited, "a#annabel", ann, false},
		{limited, "a#", ann, false},
		{limited, "a#", nobody, false},
		{limited, "a#,", nobody, false},
		{limited, "$a#ann", ann, false},
		{limited, "a#bob", everything, true},
		{openLimited, "a#bob", ann, false}, // the list is for nobody else
		{openLimited, "a#bob", nobody, false},
		{openLimited, "a", nobody, true},
	} {
		if got := tt.options.MaySubscribe(tt.channel, tt.actor); got != tt.want {
			t.Errorf("%+v to %q: %t", tt.actor, tt.channel, got)
		}
	}
}

// The three other permissions are given alike.
func TestPermissions(t *testing.T) {
	permissions := map[string]struct {
		options func(client, anonymous, subscriber bool) hub.Options
		may     func(*hub.Options, string, hub.Actor) bool
	}{
		"publish": {func(c, a, s bool) hub.Options {
			return hub.Options{AllowPublishForClient: c, AllowPublishForAnonymous: a, AllowPublishForSubscriber: s}
		}, (*hub.Options).MayPublish},
		"presence": {func(c, a, s bool) hub.Options {
			return hub.Options{AllowPresenceForClient: c, AllowPresenceForAnonymous: a, AllowPresenceForSubscriber: s}
		}, (*hub.Options).MayAskPresence},
		"history": {func(c, a, s bool) hub.Options {
			return hub.Options{AllowHistoryForClient: c, AllowHistoryForAnonymous: a, AllowHistoryForSubscriber: s}
		}, (*hub.Options).MayAskHistory},
	}
	actors := []hub.Actor{ann, annInside, nobody, inside, everything}
	for _, tt := range []struct {
		client, anonymous, subscriber bool
		want                          string // for each of the actors
	}{
		{false, false, false, "[false false false false true]"},
		{true, false, false, "[true true false false true]"},
		{false, true, false, "[false false false false true]"},
		{true, true, false, "[true true true true true]"},
		{false, false, true, "[false true false true true]"},
		{true, false, true, "[true true false true true]"},
	} {
		for name, p := range permissions {
			o := p.options(tt.client, tt.anonymous, tt.subscriber)
			var got []bool
			for _, a := range actors {
				got = append(got, p.may(&o, "a", a))
			}
			if fmt.Sprint(got) != tt.want {
				t.Errorf("%s with %+v: %v", name, tt, got)
			}
		}
		// Each is its own.
		o := permissions["publish"].options(true, true, true)
		if o.MayAskHistory("a", annInside) || o.MayAskPresence("a", annInside) || o.MaySubscribe("a", annInside) {
			t.Error("who may publish may do other things")
		}
	}
}

// What all clients may do in a namespace, they may not do in channels that are not for all of them.
func TestPermissionsInClosedChannels(t *testing.T) {
	o := hub.Options{
		AllowUserLimitedChannels: true, AllowSubscribeForClient: true, AllowSubscribeForAnonymous: true,
		AllowPublishForClient: true, AllowPublishForAnonymous: true, AllowPresenceForClient: true, AllowPresenceForAnonymous: true,
		AllowHistoryForClient: true, AllowHistoryForAnonymous: true,
	}
	unlimited := o
	unlimited.AllowUserLimitedChannels = false
	for _, tt := range []struct {
		options *hub.Options
		channel string
		want    string // for each of the actors
	}{
		{&o, "a", "[true true true true true]"},
		{&o, "$a", "[false true false true true]"},
		{&o, "$a#ann", "[false true false true true]"},
		{&o, "a#ann", "[true true false true true]"},
		{&o, "a#bob", "[false true false true true]"}, // subscribed by a token, or by a backend
		{&o, "space:a#bob,ann", "[true true false true true]"},
		{&o, "a#", "[false true false true true]"},
		{&unlimited, "a#bob", "[true true true true true]"}, // no list where there are none
		{&unlimited, "$a", "[false true false true true]"},
	} {
		for name, may := range map[string]func(*hub.Options, string, hub.Actor) bool{
			"publish": (*hub.Options).MayPublish, "presence": (*hub.Options).MayAskPresence, "history": (*hub.Options).MayAskHistory,
		} {
			var got []bool
			for _, a := range []hub.Actor{ann, annInside, nobody, inside, everything} {
				got = append(got, may(tt.options, tt.channel, a))
			}
			if fmt.Sprint(got) != tt.want {
				t.Errorf("%s in %q: %v, want %s", name, tt.channel, got, tt.want)
			}
		}
	}
}

func TestUsersOfAName(t *testing.T) {
	for name, want := range map[string][]string{
		"a": nil, "a#b": {"b"}, "a#b,c": {"b", "c"}, "#b": {"b"}, "s:a#b": {"b"}, "a#": {""},
	} {
		if got := hub.Users(name); !slices.Equal(got, want) {
			t.Errorf("%q: %q", name, got)
		}
	}
	if a, b := hub.PersonalChannel("", "ann"), hub.PersonalChannel("space", "ann"); a != "#ann" || b != "space:#ann" {
		t.Error(a, b)
	}
}

// The prefix of private channels is not part of the namespace.
func TestPrivateChannelsHaveTheirNamespacesOptions(t *testing.T) {
	h := newHub(t, hub.Config{
		Executor:   inert{},
		Channels:   hub.Options{MaxPublicationBytes: 1},
		Namespaces: []hub.Namespace{{Name: "news", Options: hub.Options{MaxPublicationBytes: 2, ChannelRegex: "[a-z]+", HistorySize: 1, HistoryTTL: time.Minute}}},
	})
	for channel, want := range map[string]int{
		"a": 1, "$a": 1, "$": 1, "news:a": 2, "$news:a": 2, "$news:1": -107, "$$news:a": -102, "$other:a": -102, "$news": 1, ":a": -102,
	} {
		o, err := h.Options(channel)
		got := 0
		if err != nil {
			code, _ := hub.Describe(err)
			got = -int(code)
		} else {
			got = o.MaxPublicationBytes
		}
		if got != want {
			t.Errorf("%q: %d, want %d", channel, got, want)
		}
	}
}
