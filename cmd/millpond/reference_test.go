package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/millpond/millpond/push"
)

// current holds a file of docs, behind the mark, against what is made of the definitions, or writes it under MILLPOND_WRITE_DOCS.
func current(t *testing.T, path, mark string, args ...string) string {
	t.Helper()
	code, made, stderr := runCommand(args...)
	if code != 0 {
		t.Fatal(stderr)
	}
	b, err := os.ReadFile(path)
	if err != nil && mark != "" {
		t.Fatal(err)
	}
	before, after := "", string(b)
	if mark != "" {
		head, tail, ok := strings.Cut(after, mark)
		if !ok {
			t.Fatalf("%s: no %q", path, mark)
		}
		before, after = head+mark, tail
	}
	if after == made {
		return made
	}
	if os.Getenv("MILLPOND_WRITE_DOCS") == "" {
		t.Errorf("%s is not what the definitions say: make generate", path)
	} else if err := os.WriteFile(path, []byte(before+made), 0o644); err != nil {
		t.Fatal(err)
	}
	return made
}

func TestReference(t *testing.T) {
	current(t, "../../docs/configuration.md", "<!-- What follows is made by make generate. -->\n\n", "config", "reference")
}

// The schema takes what serve takes, and refuses what it refuses.
func TestSchema(t *testing.T) {
	made := current(t, "../../docs/millpond.schema.json", "", "config", "schema")
	schema := compiled(t, made)
	_, defaults, _ := runCommand("config", "default")
	for _, tt := range []struct {
		name, file string
		good       bool
	}{
		{"defaults", defaults, true},
		{"nothing of it commented", uncommented(defaults), true},
		{"of DESIGN", "channels:\n  history_size: 0\nnamespaces:\n  - name: orders\n    history_size: 100\n    history_ttl: 300s\n    force_recovery: true\n    allowed_delta_types: [fossil]\n    slow_policy: latest\n", true},
		{"webhooks", "webhooks:\n  - name: auth\n    http_status_to_code_transforms: [{status_code: 403, to_error: {code: 403, message: no}}]\n", true},
		{"a duration of parts", "ping_interval: 1m30s\n", true},
		{"an unknown key", "devv: true\n", false},
		{"an unknown option", "namespaces:\n  - histroy_size: 1\n", false},
		{"an unknown option in depth", "webhooks:\n  - http_status_to_code_transforms: [{to_error: {cod: 1}}]\n", false},
		{"a word for a number", "max_channels: many\n", false},
		{"a number for a duration", "ping_interval: 25\n", false},
		{"no unit", "ping_interval: \"25\"\n", false},
		{"none of several", "log_format: xml\n", false},
		{"a list for a section", "channels: [1]\n", false},
	} {
		if err := schema.Validate(asJSON(t, tt.file)); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
		if d, err := newDocument("", []byte(tt.file)); err != nil || (len(d.check(knownSettings(t))) == 0) != tt.good {
			t.Errorf("%s: serve does not agree: %v", tt.name, err)
		}
	}
}

func compiled(t *testing.T, schema string) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("millpond.schema.json", document); err != nil {
		t.Fatal(err)
	}
	out, err := compiler.Compile("millpond.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func asJSON(t *testing.T, file string) any {
	t.Helper()
	var v any
	b, err := yaml.YAMLToJSON([]byte(file))
	if err == nil {
		v, err = jsonschema.UnmarshalJSON(bytes.NewReader(b))
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return v
}

// serverSays returns what a server says of a file that has been found good, or not, before.
func serverSays(t *testing.T, path string) error {
	t.Helper()
	var c cli
	parser, err := newParser(&c, func(name string, source []byte) (*document, error) {
		d, err := newDocument(name, source)
		if err == nil {
			d.checked = true
		}
		return d, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"serve", "--dev", "--config=" + path}); err != nil {
		return err
	}
	config, err := c.Serve.config(slog.New(slog.DiscardHandler))
	if err = errors.Join(err, config.Validate()); err != nil || config.NamedAPIKeys == nil {
		return err
	}
	config.Listen, config.InternalListen = []string{"127.0.0.1:0"}, "127.0.0.1:0"
	server, err := push.New(config) // which reads keys
	if err != nil {
		return err
	}
	return server.Shutdown(t.Context())
}

// uncommented makes settings of the commented ones in sections.
func uncommented(file string) string {
	var out []string
	for line := range strings.Lines(file) {
		if rest, ok := strings.CutPrefix(strings.TrimLeft(line, " "), "# "); ok && (strings.HasPrefix(rest, "  ") || strings.HasPrefix(rest, "- ")) {
			line = strings.Repeat(" ", len(line)-len(strings.TrimLeft(line, " "))) + rest
		}
		out = append(out, line)
	}
	return strings.Join(out, "")
}

func knownSettings(t *testing.T) []setting {
	t.Helper()
	var c cli
	parser, err := newParser(&c, newDocument)
	if err != nil {
		t.Fatal(err)
	}
	return settingsOf(parser.Model)
}

// At the bounds the schema, the check of the file with its lines, and the server itself agree; so they do on each of several words.
func TestSchemaBounds(t *testing.T) {
	_, made, _ := runCommand("config", "schema")
	schema, known := compiled(t, made), knownSettings(t)
	agree := func(t *testing.T, file string, good bool) {
		t.Helper()
		if err := schema.Validate(asJSON(t, file)); (err == nil) != good {
			t.Errorf("%s: the schema: %v", file, err)
		}
		d, err := newDocument("", []byte(file))
		if err != nil {
			t.Fatal(err)
		}
		if wrong := d.check(known); (len(wrong) == 0) != good {
			t.Errorf("%s: the check of the file: %v", file, wrong)
		}
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := serverSays(t, path); (err == nil) != good {
			t.Errorf("%s: the server: %v", file, err)
		}
	}
	// What else has to be there for the value to mean anything.
	also := map[string]string{
		"history_ttl": ", history_size: 1", "history_size": ", history_ttl: 1s",
		"force_recovery_mode": ", history_size: 1, history_ttl: 1s, force_recovery: true", "events": ", history_size: 1, history_ttl: 1s, force_recovery: true, force_recovery_mode: cache",
	}
	try := func(s setting, wrap string) {
		t.Run(s.key, func(t *testing.T) {
			for value, good := range atBounds(s) {
				if s.kind() == "list of strings" {
					value = "[" + value + "]"
				}
				line := s.key + ": " + value
				if value != "0" && value != "0ns" { // a history of nothing needs no time
					line += also[s.key]
				}
				agree(t, fmt.Sprintf(wrap, line), good)
			}
		})
	}
	for _, s := range known {
		switch {
		case s.bounds.text != "":
			try(s, "%s\n")
		case s.key == "channels", s.key == "api_keys":
			wrap := map[string]string{"channels": "events: [client_connected]\nevents_url: 'http://127.0.0.1:1/'\nchannels: {%s}\n", "api_keys": "api_keys: [{name: a, sha256: '" + strings.Repeat("0", 64) + "', %s}]\n"}[s.key]
			for _, f := range s.fields {
				if f.bounds.text != "" || f.enum != nil {
					try(f, wrap)
				}
			}
		}
	}
}

// atBounds are values at which a setting is just good, or just not.
func atBounds(s setting) map[string]bool {
	out := map[string]bool{}
	for _, word := range s.enum {
		out[word] = true
		out[word+"x"] = false
	}
	unit, step := "", 1.0
	if s.kind() == "duration" {
		unit = "ns"
	}
	if s.kind() == "number" {
		step = 0.001
	}
	text := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) + unit }
	if b := s.bounds; b.least != nil {
		out[text(*b.least)] = true
		out[text(*b.least-step)] = false
	}
	if b := s.bounds; b.most != nil {
		out[text(*b.most)] = !b.below
		out[text(*b.most+step)] = false
		out[text(*b.most-step)] = true
	}
	if s.bounds.zero {
		out["0"] = true
	}
	return out
}
