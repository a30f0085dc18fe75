package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"

	"github.com/millpond/millpond/internal/nearest"
)

// file is a configuration file: each key is a flag of serve, with _ for -, or one of fileKeys. Flags and
// environment win over it.
type file map[string]any

var _ kong.Resolver = file(nil)

// loadFile reads YAML; a key that stands twice is an error.
func loadFile(r io.Reader) (kong.Resolver, error) {
	f := file{}
	if err := yaml.NewDecoder(r).Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("config: %w", err)
	}
	return f, nil
}

// Validate reports every key that is no flag, with the nearest that is.
func (f file) Validate(app *kong.Application) error {
	var names []string
	for _, command := range app.Children {
		if command.Name == "serve" {
			for _, flag := range command.Flags {
				names = append(names, key(flag))
			}
		}
	}
	var errs []error
	for name := range f {
		if !slices.Contains(fileKeys, name) && (!slices.Contains(names, name) || name == "config") {
			known := slices.Concat(names, fileKeys)
			errs = append(errs, fmt.Errorf("config: unknown key %s, did you mean %s?", name, nearest.Name(name, known)))
		}
	}
	return errors.Join(errs...)
}

// Resolve implements kong.Resolver.
func (f file) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, env := range flag.Envs {
		if _, ok := os.LookupEnv(env); ok {
			return nil, nil //nolint:nilnil // kong: no value from here
		}
	}
	return f[key(flag)], nil
}

func key(flag *kong.Flag) string { return strings.ReplaceAll(flag.Name, "-", "_") }
