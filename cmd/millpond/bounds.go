package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// bounds are what a number or duration of a setting may be, whatever the other settings are. The zero value is any.
type bounds struct {
	least, most *float64 // of a duration in nanoseconds; nil is no bound
	below       bool     // most is not among them
	zero        bool     // 0 is, too, and means something else, such as a default
	text        string
}

// parseBounds reads the tag range: "LEAST:MOST", either of which may be missing, with < before MOST if that is too much already, and " or 0" behind
// it. Durations have their units.
func parseBounds(tag string) (b bounds) {
	if tag == "" {
		return b
	}
	text, zero := strings.CutSuffix(tag, " or 0")
	least, most, _ := strings.Cut(text, ":")
	most, b.below = strings.CutPrefix(most, "<")
	b.least, b.most, b.zero = bound(least), bound(most), zero
	switch {
	case most == "":
		b.text = least + " or more"
	case b.below:
		b.text = least + " or more, and less than " + most
	default:
		b.text = least + " to " + most
	}
	if zero {
		b.text += ", or 0"
	}
	return b
}

func bound(text string) *float64 {
	if text == "" {
		return nil
	}
	v, err := number(text)
	if err != nil {
		panic(fmt.Sprintf("range %q: %v", text, err))
	}
	return &v
}

// number is what a number or a duration stands for.
func number(text string) (float64, error) {
	if d, err := time.ParseDuration(text); err == nil && text != "0" {
		return float64(d), nil
	}
	v, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
	if err == nil && math.IsNaN(v) {
		err = strconv.ErrRange
	}
	return v, err
}

// check reports what is wrong with a value, if it is a number at all.
func (b *bounds) check(text string) error {
	v, err := number(text)
	if b.text != "" && errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%s is no number", text)
	}
	if err != nil {
		return nil //nolint:nilerr // what is no number is found elsewhere
	}
	switch {
	case b.zero && v == 0:
	case b.least != nil && v < *b.least, b.most != nil && (v > *b.most || b.below && v >= *b.most):
		return fmt.Errorf("%s is not %s", text, b.text)
	}
	return nil
}

// schema adds them to that of a number. A schema can say of a duration, which is text, only that it is not negative.
func (b *bounds) schema(out map[string]any) {
	limits := map[string]any{}
	if b.least != nil {
		limits["minimum"] = *b.least
	}
	if b.most != nil && b.below {
		limits["exclusiveMaximum"] = *b.most
	} else if b.most != nil {
		limits["maximum"] = *b.most
	}
	if !b.zero {
		for k, v := range limits {
			out[k] = v
		}
		return
	}
	out["anyOf"] = []any{map[string]any{"const": 0}, map[string]any{"type": "null"}, limits}
}
