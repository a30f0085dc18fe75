package centrifuge

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// The bounds of a tags filter: what one publication may cost for each subscriber.
const (
	maxFilterNodes = 64
	maxFilterDepth = 8
)

// checkFilter reports what is wrong with a filter. The error wraps hub.ErrBadRequest.
func checkFilter(f *wire.FilterNode) error {
	nodes := 0
	return checkNode(f, &nodes, 1)
}

func checkNode(f *wire.FilterNode, nodes *int, depth int) error {
	if *nodes += 1 + len(f.GetVals()); f == nil || *nodes > maxFilterNodes || depth > maxFilterDepth {
		return badFilter("it has a hole, or more than %d nodes and values, or is deeper than %d", maxFilterNodes, maxFilterDepth)
	}
	switch f.Op {
	case "":
		return checkLeaf(f)
	case "and", "or":
		if len(f.Nodes) == 0 {
			return badFilter("%q needs nodes", f.Op)
		}
	case "not":
		if len(f.Nodes) != 1 {
			return badFilter(`"not" needs one node`)
		}
	default:
		return badFilter("there is no op %q", f.Op)
	}
	for _, n := range f.Nodes {
		if err := checkNode(n, nodes, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func checkLeaf(f *wire.FilterNode) error {
	switch f.Cmp {
	case "eq", "neq", "sw", "ew", "ct", "ex", "nex":
	case "in", "nin":
		if len(f.Vals) == 0 {
			return badFilter("%q needs vals", f.Cmp)
		}
	case "lt", "lte", "gt", "gte":
		if _, ok := parseNumber(f.Val); !ok {
			return badFilter("%q needs a number", f.Cmp)
		}
	default:
		return badFilter("there is no cmp %q", f.Cmp)
	}
	if f.Key == "" || len(f.Nodes) > 0 {
		return badFilter("a comparison needs a key, and has no nodes")
	}
	return nil
}

func badFilter(format string, args ...any) error {
	return fmt.Errorf("%w: tags filter: %s", hub.ErrBadRequest, fmt.Sprintf(format, args...))
}

// matches reports whether a publication with these tags is wanted. The filter has been checked.
func matches(f *wire.FilterNode, tags map[string]string) bool {
	switch f.Op {
	case "and":
		return !slices.ContainsFunc(f.Nodes, func(n *wire.FilterNode) bool { return !matches(n, tags) })
	case "or":
		return slices.ContainsFunc(f.Nodes, func(n *wire.FilterNode) bool { return matches(n, tags) })
	case "not":
		return !matches(f.Nodes[0], tags)
	}
	value, there := tags[f.Key]
	return compare(f, value, there)
}

// compare is a leaf. A tag that is not there differs from all values, and is neither less nor more than a number.
func compare(f *wire.FilterNode, value string, there bool) bool {
	switch f.Cmp {
	case "ex":
		return there
	case "nex":
		return !there
	case "neq":
		return !there || value != f.Val
	case "nin":
		return !there || !slices.Contains(f.Vals, value)
	}
	if !there {
		return false
	}
	switch f.Cmp {
	case "eq":
		return value == f.Val
	case "in":
		return slices.Contains(f.Vals, value)
	case "sw":
		return strings.HasPrefix(value, f.Val)
	case "ew":
		return strings.HasSuffix(value, f.Val)
	case "ct":
		return strings.Contains(value, f.Val)
	}
	return compareNumbers(f, value)
}

func compareNumbers(f *wire.FilterNode, value string) bool {
	is, ok := parseNumber(value)
	want, _ := parseNumber(f.Val)
	switch f.Cmp {
	case "lt":
		return ok && is < want
	case "lte":
		return ok && is <= want
	case "gt":
		return ok && is > want
	}
	return ok && is >= want
}

func parseNumber(s string) (float64, bool) {
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}
