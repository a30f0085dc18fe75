package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"

	"github.com/millpond/millpond/internal/files"
)

// file is a configuration file: each key is a flag of serve, with _ for -, or one of sections. Flags and
// environment win over it.
type file map[string]any

// document is a file with the places of what is in it. It is read once: its name may be that of a pipe, or of another file soon.
type document struct {
	name   string
	source []byte
	values file
	lax    bool // what is wrong is left out and no error

	checked bool
	wrong   problems
}

var _ kong.Resolver = (*document)(nil)

// configFile is the path of a file.
type configFile string

// loader makes a document of what is in a file.
type loader func(name string, source []byte) (*document, error)

// BeforeResolve reads the file. What neither flags nor environment say is asked of it.
func (configFile) BeforeResolve(ctx *kong.Context, trace *kong.Path, load loader) error {
	path, _ := ctx.FlagValue(trace.Flag).(configFile)
	d, err := readDocument(string(path), load)
	if err != nil {
		return err
	}
	ctx.AddResolver(d)
	return nil
}

func readDocument(path string, load loader) (*document, error) {
	if path == "" {
		return nil, errors.New("config: it names no file")
	}
	path = kong.ExpandPath(path)
	source, err := files.Read(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return load(path, source)
}

// newDocument reads YAML; a key that stands twice is an error.
func newDocument(name string, source []byte) (*document, error) {
	d := &document{name: name, source: withoutMark(source), values: file{}}
	if at := invalidUTF8(d.source); at >= 0 {
		before := d.source[:at]
		p := problem{File: d.name, Line: bytes.Count(before, []byte("\n")) + 1, Column: at - bytes.LastIndexByte(before, '\n'), Message: "it is not UTF-8"}
		return nil, fmt.Errorf("config: %w", problems{p})
	}
	if t := tooDeep(string(d.source)); t != nil {
		p := problem{File: d.name, Line: t.Position.Line, Column: t.Position.Column, Message: fmt.Sprintf("nested more than %d deep", maxNesting)}
		return nil, fmt.Errorf("config: %w", problems{p})
	}
	if err := yaml.Unmarshal(d.source, &d.values); err != nil && !errors.Is(err, io.EOF) {
		return nil, d.syntax(err)
	}
	return d, nil
}

// withoutMark leaves out a byte order mark, as editors of Windows write.
func withoutMark(source []byte) []byte { return bytes.TrimPrefix(source, []byte("\ufeff")) }

// invalidUTF8 returns where source is not UTF-8, or -1.
func invalidUTF8(source []byte) int {
	for i := 0; i < len(source); {
		r, n := utf8.DecodeRune(source[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// maxFile is in bytes what a file may have.
const maxFile = 16 << 20

// maxNesting is how deep brackets may stand in each other, or dashes in a line: the parser takes gigabytes for some ten thousand.
const maxNesting = 100

// tooDeep returns where it is deeper, or nil.
func tooDeep(source string) *token.Token {
	brackets, line, dashes := 0, 0, 0
	for _, t := range lexer.Tokenize(source) {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType:
			if t.Position.Line != line {
				line, dashes = t.Position.Line, 0
			}
			dashes++
		default:
		}
		if max(brackets, dashes) > maxNesting {
			return t
		}
	}
	return nil
}

// syntax says where the file is no YAML.
func (d *document) syntax(err error) error {
	p := problem{File: d.name, Message: err.Error()}
	var e yaml.Error
	if errors.As(err, &e) {
		p.Message = e.GetMessage()
		if t := e.GetToken(); t != nil && t.Position != nil {
			p.Line, p.Column = t.Position.Line, t.Position.Column
		}
	}
	return fmt.Errorf("config: %w", problems{p})
}

// Validate reports everything that is wrong with the file, with its place.
func (d *document) Validate(app *kong.Application) error {
	d.examine(app)
	if len(d.wrong) == 0 || d.lax {
		return nil
	}
	return d.wrong
}

// examine checks the file, and leaves out flags that are wrong, so that all else can be looked at, too.
func (d *document) examine(app *kong.Application) {
	if d.checked {
		return
	}
	d.checked = true
	d.wrong = d.check(settingsOf(app))
	for _, p := range d.wrong {
		delete(d.values, p.Key)
	}
}

// Resolve implements kong.Resolver. Kong asks for values before it validates.
func (d *document) Resolve(c *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	d.examine(c.Model)
	for _, env := range flag.Envs {
		if _, ok := os.LookupEnv(env); ok {
			return nil, nil //nolint:nilnil // kong: no value from here
		}
	}
	return d.values[key(flag)], nil
}

func key(flag *kong.Flag) string { return strings.ReplaceAll(flag.Name, "-", "_") }
