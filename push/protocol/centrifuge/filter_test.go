package centrifuge

import (
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

var (
	filterKeys   = []string{"a", "b", "c"}
	filterValues = []string{"", "1", "2", "10", "-1", "1.5", "x", "xy", "yx", "1e2"}
	comparisons  = []string{"eq", "neq", "in", "nin", "ex", "nex", "sw", "ew", "ct", "lt", "lte", "gt", "gte", "", "like"}
)

func pick[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }

func randomFilter(random *rand.Rand, depth int) *wire.FilterNode {
	f := &wire.FilterNode{}
	if depth > 0 && random.IntN(2) == 0 {
		f.Op = pick(random, []string{"and", "or", "not", "and", "or", "not", "xor"})
		n := 1
		if f.Op != "not" || random.IntN(10) == 0 {
			n = random.IntN(4)
		}
		for range n {
			f.Nodes = append(f.Nodes, randomFilter(random, depth-1))
		}
		return f
	}
	f.Key, f.Cmp, f.Val = pick(random, filterKeys), pick(random, comparisons), pick(random, filterValues)
	for range random.IntN(3) {
		f.Vals = append(f.Vals, pick(random, filterValues))
	}
	return f
}

// naiveFilter evaluates a filter, or reports that there is something wrong with it.
func naiveFilter(f *wire.FilterNode, tags map[string]string) (result, ok bool) {
	var results []bool
	ok = true
	for _, n := range f.Nodes {
		r, good := naiveFilter(n, tags)
		results, ok = append(results, r), ok && good
	}
	all, some := true, false
	for _, r := range results {
		all, some = all && r, some || r
	}
	switch f.Op {
	case "and":
		return all, ok && len(results) > 0
	case "or":
		return some, ok && len(results) > 0
	case "not":
		return !some, ok && len(results) == 1
	case "":
	default:
		return false, false
	}
	v, there := tags[f.Key]
	number, isNumber := new(big.Rat).SetString(v)
	bound, isBound := new(big.Rat).SetString(f.Val)
	order := 0
	if isNumber && isBound {
		order = number.Cmp(bound)
	}
	listed := strings.Contains("\x00"+strings.Join(f.Vals, "\x00")+"\x00", "\x00"+v+"\x00")
	compared := map[string][2]bool{ // the result, and whether the filter is good
		"eq": {there && v == f.Val, true}, "neq": {!(there && v == f.Val), true},
		"in": {there && listed, len(f.Vals) > 0}, "nin": {!(there && listed), len(f.Vals) > 0},
		"ex": {there, true}, "nex": {!there, true},
		"sw": {there && strings.Index(v, f.Val) == 0, true},
		"ew": {there && len(v) >= len(f.Val) && v[len(v)-len(f.Val):] == f.Val, true},
		"ct": {there && strings.Contains(v, f.Val), true},
		"lt": {isNumber && order < 0, isBound}, "lte": {isNumber && order <= 0, isBound},
		"gt": {isNumber && order > 0, isBound}, "gte": {isNumber && order >= 0, isBound},
	}
	r, known := compared[f.Cmp]
	return r[0], known && r[1]
}

func TestFilterAgainstNaive(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	good := 0
	for range 30_000 {
		f := randomFilter(random, 3)
		tags := map[string]string{}
		for _, k := range filterKeys {
			if random.IntN(3) > 0 {
				tags[k] = pick(random, filterValues)
			}
		}
		want, ok := naiveFilter(f, tags)
		if err := checkFilter(f); (err == nil) != ok || err != nil && !errors.Is(err, hub.ErrBadRequest) {
			t.Fatalf("%v: %v", f, err)
		}
		if ok {
			good++
			if got := matches(f, tags); got != want {
				t.Fatalf("%v on %v: %t", f, tags, got)
			}
		}
	}
	if good < 5000 {
		t.Errorf("%d of the filters were good", good)
	}
}

func TestFilterIsBounded(t *testing.T) {
	leaf := &wire.FilterNode{Key: "a", Cmp: "ex"}
	wide := func(n int) *wire.FilterNode {
		f := &wire.FilterNode{Op: "or"}
		for range n {
			f.Nodes = append(f.Nodes, leaf)
		}
		return f
	}
	deep := func(n int) *wire.FilterNode {
		f := leaf
		for range n {
			f = &wire.FilterNode{Op: "not", Nodes: []*wire.FilterNode{f}}
		}
		return f
	}
	values := func(n int) *wire.FilterNode {
		return &wire.FilterNode{Key: "a", Cmp: "in", Vals: strings.Split(strings.Repeat("x,", n-1), ",")}
	}
	for name, tt := range map[string]struct {
		filter *wire.FilterNode
		ok     bool
	}{
		"64 nodes": {wide(63), true}, "65 nodes": {wide(64), false}, "8 levels": {deep(7), true}, "9 levels": {deep(8), false},
		"63 values": {values(63), true}, "64 values": {values(64), false}, "a hole": {&wire.FilterNode{Op: "and", Nodes: []*wire.FilterNode{nil}}, false},
		"a comparison with nodes": {&wire.FilterNode{Key: "a", Cmp: "ex", Nodes: []*wire.FilterNode{leaf}}, false},
	} {
		if err := checkFilter(tt.filter); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := fmt.Sprint(checkFilter(leaf)); got != "<nil>" {
		t.Error(got)
	}
}
