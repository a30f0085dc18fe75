package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

type configSchema struct{}

// Run prints a JSON schema of the file, for editors.
func (configSchema) Run(s *streams, app *kong.Kong) error {
	schema := object(settingsOf(app.Model), "https://json-schema.org/draft/2020-12/schema")
	schema["title"] = "The file of millpond serve --config"
	e := json.NewEncoder(s.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(schema)
}

// object is the schema of a mapping; dialect may be empty.
func object(fields []setting, dialect string) map[string]any {
	properties := map[string]any{}
	for _, f := range fields {
		properties[f.key] = f.schema()
	}
	out := map[string]any{"type": []string{"object", "null"}, "additionalProperties": false, "properties": properties}
	if dialect != "" {
		out["$schema"] = dialect
	}
	return out
}

// durations are what time.ParseDuration takes, behind the signs that are allowed.
const durations = `(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+$`

// schema is that of the setting's value; null leaves it to the default.
func (s setting) schema() map[string]any {
	out := map[string]any{}
	switch kind := s.kind(); kind {
	case "section":
		out = object(s.fields, "")
	case "list of sections":
		out["type"], out["items"] = []string{"array", "null"}, object(s.fields, "")
	case "list of strings":
		out["type"], out["items"] = []string{"array", "string", "null"}, map[string]any{"type": "string"}
	case "map of strings":
		out["type"], out["additionalProperties"] = []string{"object", "null"}, map[string]any{"type": "string"}
	case "duration":
		sign := "^[-+]?"
		if b := s.bounds.least; b != nil && *b >= 0 {
			sign = `^\+?`
		}
		out["type"], out["pattern"] = []string{"string", "null"}, sign+durations
	case "string":
		out["type"] = []string{"string", "null"}
	default:
		out["type"] = []string{kind, "null"}
		s.bounds.schema(out)
	}
	if s.enum != nil && s.kind() == "list of strings" {
		out["items"] = map[string]any{"enum": s.enum}
	} else if s.enum != nil {
		values := []any{nil}
		for _, v := range s.enum {
			values = append(values, v)
		}
		delete(out, "type")
		out["enum"] = values
	}
	out["description"] = s.help
	if u := s.unit(); u != "" {
		out["description"] = s.help + " Unit: " + u + "."
	}
	if d := s.jsonDefault(); d != nil {
		out["default"] = d
	}
	return out
}

// jsonDefault is the default as a value of JSON; nil for none.
func (s setting) jsonDefault() any {
	switch text := s.value(); s.kind() {
	case "integer", "number", "boolean":
		if text != "" {
			return json.RawMessage(text)
		}
	case "string", "duration":
		if s.def != "" {
			return s.def
		}
	case "list of strings":
		if text != "" {
			return json.RawMessage(text)
		}
	}
	return nil
}

type configReference struct{}

// Run prints the tables of docs/configuration.md.
func (configReference) Run(s *streams, app *kong.Kong) error {
	w := bufio.NewWriter(s.out)
	fmt.Fprint(w, "## Keys, flags, variables\n\n| key | type | default | SIGHUP | what |\n|---|---|---|---|---|\n")
	for _, known := range settingsOf(app.Model) {
		if known.flag != nil {
			known.row(w, reloads[known.reload])
		}
	}
	fmt.Fprint(w, "\nThe flag is the key with `--` before it and `-` for `_`, the variable `MILLPOND_` and the key in capitals.\n")
	for _, known := range sections {
		fmt.Fprintf(w, "\n## %s\n\n%s A %s; of the file alone. SIGHUP takes it over.\n\n| key | type | default | what |\n|---|---|---|---|\n", known.key, known.help, known.kind())
		rows(w, "", known.fields)
	}
	return w.Flush()
}

func rows(w io.Writer, prefix string, list []setting) {
	for _, s := range list {
		s.key = prefix + s.key
		s.row(w, "")
		rows(w, s.key+".", s.fields)
	}
}

// reloads are the words of the column for what SIGHUP does.
var reloads = map[string]string{reloadValue: " takes it over |", reloadContent: " reads the file again |", "": " |"}

// row writes a line of a table; column is one more between the default and what it means, or empty.
func (s setting) row(w io.Writer, column string) {
	kind, def := s.kind(), s.value()
	if u := s.unit(); u != "" && kind != "duration" {
		kind += ", " + u
	}
	if s.bounds.text != "" {
		kind += ", " + s.bounds.text
	}
	if text, err := strconv.Unquote(def); err == nil {
		def = text
	}
	if def != "" {
		def = "`" + def + "`"
	}
	fmt.Fprintf(w, "| `%s` | %s | %s |%s %s |\n", s.key, kind, def, column, strings.ReplaceAll(s.help, "|", `\|`))
}
