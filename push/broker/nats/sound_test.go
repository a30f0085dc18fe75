package nats

import "testing"

// A stream begins anew only if this node's server, which lost something, may have had what most of the others have not.
func TestNeedsRenewal(t *testing.T) {
	three, five := []string{"a", "b", "c"}, []string{"a", "b", "c", "d", "e"}
	for _, c := range []struct {
		name           string
		why, member    string
		servers, sound []string
		want           bool
	}{
		{"nothing is lost", "", "a", three, nil, false},
		{"alone", "power", "", nil, nil, true},
		{"both others are sound", "power", "a", three, []string{"b", "c"}, false},
		{"one is", "power", "a", three, []string{"b"}, true},
		{"none is", "power", "a", three, nil, true},
		{"others of the cluster are, which do not have it", "power", "a", three, []string{"b", "d", "e"}, true},
		{"it is not this one's", "power", "z", three, nil, false},
		{"three of five", "power", "a", five, []string{"b", "c", "d"}, false},
		{"two of five", "power", "a", five, []string{"b", "c"}, true},
		{"the only one", "power", "a", []string{"a"}, []string{"b", "c"}, true},
	} {
		b := &Broker{config: Config{Renew: c.why, Member: c.member}}
		if got := b.needsRenewal(state{servers: c.servers}, c.sound); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
