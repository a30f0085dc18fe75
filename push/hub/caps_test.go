package hub_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/millpond/millpond/push/hub"
)

func TestCapabilities(t *testing.T) {
	const sub, pub, prs, hst = hub.RightSubscribe, hub.RightPublish, hub.RightPresence, hub.RightHistory
	c, err := hub.ParseCapabilities([]hub.Capability{
		{Channels: []string{"news", "news:*"}, Allow: []string{"sub"}},
		{Channels: []string{"news"}, Allow: []string{"pub"}}, // too late
		{Channels: []string{"a:*", "*:end", "x*y*y*z"}, Match: "wildcard", Allow: []string{"sub", "prs"}},
		{Channels: []string{`^posts_\d+$`, "p|pp", "Q.*"}, Match: "regex", Allow: []string{"hst"}},
		{Channels: []string{"none"}},
		{Channels: []string{"*"}, Match: "wildcard", Allow: []string{"pub"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for channel, want := range map[string]hub.Rights{
		"news": sub, "news:*": sub, "news:a": pub, "NEWS": pub, "newss": pub, // names are exact
		"a:": sub | prs, "a:b": sub | prs, "ba:b": pub, "b:end": sub | prs, ":end": sub | prs, "end": pub,
		"xyyz": sub | prs, "x1y2y3z": sub | prs, "xyz": pub, "xyy": pub, "$x": pub,
		"posts_12": hst, "posts_12x": pub, "myposts_1": pub, "p": hst, "pp": hst, "ppp": pub, "Q": hst, "aQ": pub, // the whole name
		"none": 0,
	} {
		if got := c.Of(channel); got != want {
			t.Errorf("%q: %b, want %b", channel, got, want)
		}
	}
	if none := (*hub.Capabilities)(nil); none.Of("a") != 0 {
		t.Error("none are some")
	}
	for _, entries := range [][]hub.Capability{nil, {}} {
		if c, err := hub.ParseCapabilities(entries); err != nil || (c == nil) != (entries == nil) || c.Of("") != 0 {
			t.Errorf("%#v: %v, %v", entries, c, err)
		}
	}
}

func TestCapabilitiesBounds(t *testing.T) {
	regexes := func(list ...string) []hub.Capability { return []hub.Capability{{Channels: list, Match: "regex"}} }
	names := func(n int) []string { return strings.Split(strings.Repeat("a ", n)[:2*n-1], " ") }
	for _, tt := range []struct {
		name    string
		entries []hub.Capability
		want    string // of the error
	}{
		{"most names", []hub.Capability{{Channels: names(60)}, {Channels: names(40)}}, ""},
		{"too many names", []hub.Capability{{Channels: names(60)}, {Channels: names(41)}}, "more than 100 channels"},
		{"too many entries", make([]hub.Capability, 101), "more than 100 channels"},
		{"the longest", []hub.Capability{{Channels: []string{strings.Repeat("a", 255)}}}, ""},
		{"too long", []hub.Capability{{}, {Channels: []string{strings.Repeat("a", 256)}}}, "entry 1: bad request: a channel has more than 255 bytes"},
		{"match", []hub.Capability{{Match: "glob"}}, "match"},
		{"allow", []hub.Capability{{Allow: []string{"all"}}}, "pub, prs, hst and sub"},
		{"regex", regexes(`(`), "no regular expression"},
		{"regex that leaves its group", regexes(`a)|(?:b`), "no regular expression"},
		{"regex that does not end its quote", regexes(`\Qa`), "no regular expression"},
		{"regex with a look behind", regexes(`(?<=a)b`), "no regular expression"},
		{"a large one", regexes(`a{1000}`), ""},
		{"one too large", regexes(`(a{100}b{10}){10}|(a{100}b{10}){10}`), "too large"},
		{"two together", regexes(`a{900}`, `a{900}`), "too large"},
		{"large classes", regexes(`\pL`, `\pL`, `\pL`, `\pL`), "too large"},
	} {
		_, err := hub.ParseCapabilities(tt.entries)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, hub.ErrBadRequest)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
