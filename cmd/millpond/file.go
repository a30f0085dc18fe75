package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// file is a configuration file: each key is a flag of serve, with _ for -, or one of sections. Flags and
// environment win over it.
type file map[string]any

// document is a file with the places of what is in it.
type document struct {
	name   string
	source []byte
	values file
	lax    bool // what is wrong is left out and no error

	checked bool
	wrong   problems
}

var _ kong.Resolver = (*document)(nil)

// loadFile reads YAML; a key that stands twice is an error.
func loadFile(r io.Reader) (kong.Resolver, error) { return newDocument(r) }

func newDocument(r io.Reader) (*document, error) {
	d := &document{values: file{}}
	if f, ok := r.(*os.File); ok {
		d.name = f.Name()
	}
	var err error
	if d.source, err = io.ReadAll(io.LimitReader(r, maxFile+1)); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if len(d.source) > maxFile {
		return nil, fmt.Errorf("config: %s: more than %d bytes", d.name, maxFile)
	}
	d.source = bytes.TrimPrefix(d.source, []byte("\ufeff")) // a byte order mark, as editors of Windows write
	if t := tooDeep(string(d.source)); t != nil {
		p := problem{File: d.name, Line: t.Position.Line, Column: t.Position.Column, Message: fmt.Sprintf("nested more than %d deep", maxNesting)}
		return nil, fmt.Errorf("config: %w", problems{p})
	}
	if err := yaml.Unmarshal(d.source, &d.values); err != nil && !errors.Is(err, io.EOF) {
		return nil, d.syntax(err)
	}
	return d, nil
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

// examine checks the file, and leaves out what is wrong, so that all else can be looked at, too.
func (d *document) examine(app *kong.Application) {
	if d.checked {
		return
	}
	d.checked = true
	d.wrong = d.check(settingsOf(app))
	for _, p := range d.wrong {
		name, _, _ := strings.Cut(p.Key, ".")
		name, _, _ = strings.Cut(name, "[")
		delete(d.values, name)
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
