package hub

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// The bounds of a connection's capabilities.
const (
	MaxCapabilityPatterns = 100  // over all entries
	MaxPatternBytes       = 255  // of each
	maxRegexSize          = 4000 // of all regular expressions together, in nodes, with repetitions written out: each costs some 40 bytes
)

// Capability is an entry of a connection's capabilities: what it may do in the channels that match.
type Capability struct {
	Channels []string `json:"channels"`
	Match    string   `json:"match"` // how Channels are meant: "" as names, "wildcard", or "regex"
	Allow    []string `json:"allow"` // as ParseRights reads it
}

// Capabilities are rights that a connection has beside what the options of its channels say. They are immutable; nil is none.
type Capabilities struct{ list []capability }

type capability struct {
	rights  Rights
	names   []string
	globs   [][]string // each what is before, between and after the stars
	regexes []*regexp.Regexp
}

// ParseCapabilities reads a list of entries. It returns nil for nil alone; an empty list are capabilities that give nothing.
// Errors wrap ErrBadRequest, and name the entry without a quote.
func ParseCapabilities(entries []Capability) (*Capabilities, error) {
	if entries == nil {
		return nil, nil
	}
	out := &Capabilities{list: make([]capability, 0, min(len(entries), MaxCapabilityPatterns))}
	patterns, room := 0, maxRegexSize
	for i, e := range entries {
		// An entry without a channel counts too: it takes its room.
		if patterns += max(len(e.Channels), 1); patterns > MaxCapabilityPatterns {
			return nil, fmt.Errorf("%w: there are more than %d channels", ErrBadRequest, MaxCapabilityPatterns)
		}
		c, err := parseCapability(e, &room)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		out.list = append(out.list, c)
	}
	return out, nil
}

func parseCapability(e Capability, room *int) (c capability, err error) {
	if c.rights, err = ParseRights(e.Allow); err != nil {
		return c, err
	}
	for _, pattern := range e.Channels {
		if len(pattern) > MaxPatternBytes {
			return c, fmt.Errorf("%w: a channel has more than %d bytes", ErrBadRequest, MaxPatternBytes)
		}
		switch e.Match {
		case "":
			c.names = append(c.names, pattern)
		case "wildcard":
			c.globs = append(c.globs, strings.Split(pattern, "*"))
		case "regex":
			r, err := compile(pattern, room)
			if err != nil {
				return c, err
			}
			c.regexes = append(c.regexes, r)
		}
	}
	if e.Match != "" && e.Match != "wildcard" && e.Match != "regex" {
		return c, fmt.Errorf("%w: match is not wildcard or regex", ErrBadRequest)
	}
	return c, nil
}

// compile returns what matches whole names: a pattern that forgets its ends gives too little rather than too much.
// Room is what may still be had of maxRegexSize.
func compile(pattern string, room *int) (*regexp.Regexp, error) {
	whole := `\A(?:` + pattern + `)\z`
	_, err := syntax.Parse(pattern, syntax.Perl) // by itself: it may not close the group and go on
	if err != nil {
		return nil, fmt.Errorf("%w: a channel is no regular expression", ErrBadRequest)
	}
	tree, err := syntax.Parse(whole, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("%w: a channel is no regular expression", ErrBadRequest)
	}
	if *room -= regexSize(tree); *room < 0 {
		return nil, fmt.Errorf("%w: the regular expressions are too large", ErrBadRequest)
	}
	return regexp.Compile(whole)
}

// regexSize is the size of a regular expression once its repetitions are written out, before anybody does that.
func regexSize(tree *syntax.Regexp) int {
	size := 1 + len(tree.Rune)
	for _, sub := range tree.Sub {
		size += regexSize(sub)
	}
	if tree.Op == syntax.OpRepeat {
		size *= max(tree.Min, tree.Max, 1)
	}
	return size
}

// Of returns the rights in a channel: those of the first entry that matches.
func (c *Capabilities) Of(channel string) Rights {
	if c == nil {
		return 0
	}
	for i := range c.list {
		if c.list[i].matches(channel) {
			return c.list[i].rights
		}
	}
	return 0
}

func (c *capability) matches(channel string) bool {
	return slices.Contains(c.names, channel) ||
		slices.ContainsFunc(c.globs, func(parts []string) bool { return matchesGlob(parts, channel) }) ||
		slices.ContainsFunc(c.regexes, func(r *regexp.Regexp) bool { return r.MatchString(channel) })
}

// matchesGlob reports whether text is parts, with anything between them.
func matchesGlob(parts []string, text string) bool {
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return text == first
	}
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return true
}
