package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// A file that nests without end is refused where it becomes too deep, before the parser takes gigabytes for it; a byte order mark is none of the first key.
func TestNestingOfTheFile(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"as deep as may be":    {"a: " + strings.Repeat("[", maxNesting) + strings.Repeat("]", maxNesting), ""},
		"lists":                {"a: " + strings.Repeat("[", maxNesting+1), "1:104: nested more than 100 deep"},
		"maps":                 {"dev: true\na: " + strings.Repeat("{a: ", maxNesting+1), "2:404: nested more than 100 deep"},
		"dashes":               {"a:\n  " + strings.Repeat("- ", maxNesting+1), "2:203: nested more than 100 deep"},
		"many, but not nested": {"a: [" + strings.Repeat("[], ", 1000) + "]\nb:\n" + strings.Repeat("  - 1\n", 1000), ""},
		"a byte order mark":    {"\ufeffdev: true\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := newDocument("", []byte(tt.text))
			var got string
			if list := problems(nil); errors.As(err, &list) {
				got = fmt.Sprintf("%d:%d: %s", list[0].Line, list[0].Column, list[0].Message)
			}
			switch {
			case got != tt.want || (err == nil) != (tt.want == ""):
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			case strings.Contains(tt.text, "dev") && err == nil && d.values["dev"] != true:
				t.Errorf("it has %v", d.values)
			}
		})
	}
}
