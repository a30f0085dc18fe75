package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
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
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(made))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("millpond.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("millpond.schema.json")
	if err != nil {
		t.Fatal(err)
	}
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
		var v any
		b, err := yaml.YAMLToJSON([]byte(tt.file))
		if err == nil {
			v, err = jsonschema.UnmarshalJSON(bytes.NewReader(b))
		}
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if err := schema.Validate(v); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
		if d, err := newDocument(strings.NewReader(tt.file)); err != nil || (len(d.check(knownSettings(t))) == 0) != tt.good {
			t.Errorf("%s: serve does not agree: %v", tt.name, err)
		}
	}
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
	parser, err := newParser(&c, loadFile)
	if err != nil {
		t.Fatal(err)
	}
	return settingsOf(parser.Model)
}
