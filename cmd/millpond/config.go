package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/millpond/millpond/internal/files"
	"github.com/millpond/millpond/internal/nearest"
)

// configCommand has what can be asked of the configuration of serve.
type configCommand struct {
	Check     configCheck     `cmd:"" help:"Say all that is wrong with a file and the environment, with lines and columns."`
	Default   configDefault   `cmd:"" help:"Print a file with every key, its default and what it means."`
	Schema    configSchema    `cmd:"" help:"Print a JSON schema of the file, for editors."`
	Reference configReference `cmd:"" hidden:"" help:"Print the tables of docs/configuration.md."`
	Show      configShow      `cmd:"" help:"Print what would be in force, and where from. It takes the flags of serve."`
}

type configCheck struct {
	Config string `help:"YAML file." placeholder:"FILE"`
	JSON   bool   `name:"json" help:"Print the problems as JSON."`
}

// Run prints the problems. The exit code is 1 if serve would not start.
func (c *configCheck) Run(s *streams) error {
	wrong, err := checkConfig(c.Config)
	if err != nil {
		return err
	}
	faults := len(slices.DeleteFunc(slices.Clone(wrong), func(p problem) bool { return p.Warning }))
	if c.JSON {
		e := json.NewEncoder(s.out)
		e.SetIndent("", "  ")
		err = e.Encode(map[string]any{"ok": faults == 0, "problems": append(problems{}, wrong...)})
	} else {
		for _, p := range wrong {
			prefix := ""
			if p.Warning {
				prefix = "warning: "
			}
			_, err = fmt.Fprintf(s.out, "%s%s\n", prefix, p)
		}
	}
	if faults > 0 {
		return errors.Join(err, fmt.Errorf("problems: %d", faults))
	}
	return err
}

// checkConfig finds all that is wrong with what serve would be given by a file, or none, and the environment.
func checkConfig(path string) (problems, error) {
	var c cli
	doc := &document{values: file{}}
	parser, err := newParser(&c, func(name string, source []byte) (*document, error) {
		d, err := newDocument(name, source)
		if err == nil {
			doc, d.lax = d, true
		}
		return d, err
	})
	if err != nil {
		return nil, err
	}
	known := settingsOf(parser.Model)
	wrong := checkEnvironment(parser.Model, known)
	args := []string{"serve"}
	if path != "" {
		args = append(args, "--config="+path)
	}
	ctx, err := parser.Parse(args)
	if err != nil {
		var found problems
		if !errors.As(err, &found) {
			found = problems{{File: path, Message: err.Error()}}
		}
		return append(wrong, found...), nil
	}
	wrong = append(wrong, doc.wrong...)
	config, err := c.Serve.config(slog.New(slog.DiscardHandler))
	for _, err := range flatten(errors.Join(err, config.Validate())) {
		if p := doc.locate(err.Error(), known); !wrong.has(p) {
			wrong = append(wrong, p)
		}
	}
	wrong = append(wrong, exposed(known, inForce(ctx, doc.values), doc)...)
	slices.SortStableFunc(wrong, func(a, b problem) int { // what has no place in the file is last
		return cmp.Compare(uint(a.Line)-1, uint(b.Line)-1)
	})
	return wrong, nil
}

// has reports whether there is a problem with the same key, of which a later one is the consequence, or with the same words.
func (list problems) has(p problem) bool {
	for _, old := range list {
		if p.Key != "" && (old.Key == p.Key || strings.HasPrefix(old.Key, p.Key+"[") || strings.HasPrefix(old.Key, p.Key+".")) || old.Message == p.Message {
			return true
		}
	}
	return false
}

// flatten takes joined errors apart.
func flatten(err error) (list []error) {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	for _, err := range joined.Unwrap() {
		list = append(list, flatten(err)...)
	}
	return list
}

// mentioned is how messages begin: with a key or flag, and with the name of a section.
var mentioned = regexp.MustCompile(`^(?:config: )?([a-z][a-z0-9_-]*)s?(?::? "([^"]*)")?`)

// locate makes a problem of a message, at the place of what it is about.
func (d *document) locate(message string, known []setting) problem {
	p := problem{Message: message}
	m := mentioned.FindStringSubmatch(message)
	if m == nil {
		return p
	}
	k := strings.ReplaceAll(m[1], "-", "_")
	s, ok := find(known, k)
	if !ok {
		k += "s"
		if s, ok = find(sections, k); !ok {
			return p
		}
	}
	p.Key = k
	list, _ := d.values[k].([]any)
	for i, element := range list {
		if e, _ := element.(map[string]any); m[2] != "" && e["name"] == m[2] {
			p.Key = fmt.Sprintf("%s[%d]", k, i)
		}
	}
	if _, there := d.values[k]; there {
		p.File = d.name
		p.Line, p.Column = d.position(p.Key)
	} else if _, set := os.LookupEnv(s.env()); set {
		p.Variable = s.env()
	}
	p.Message = strings.TrimPrefix(strings.TrimPrefix(message, "config: "), m[1]+": ")
	return p
}

// ofKubernetes are the variables that it sets for a service with such a name.
var ofKubernetes = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)$`)

// checkEnvironment finds the variables that say nothing or nothing sensible, and takes the latter away from app.
func checkEnvironment(app *kong.Application, known []setting) (wrong problems) {
	var names []string
	_ = kong.Visit(app.Node, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			names = append(names, flag.Envs...)
		}
		return next(nil)
	})
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "MILLPOND_") || slices.Contains(names, name) || ofKubernetes.MatchString(name) {
			continue
		}
		near := nearest.Name(name, names)
		wrong = append(wrong, problem{Variable: name, Message: "unknown variable, did you mean " + near + "?", Nearest: near})
	}
	for _, s := range known {
		value, set := os.LookupEnv(s.env())
		if s.flag == nil || !set {
			continue
		}
		if err := s.decode(value); err != nil {
			wrong = append(wrong, problem{Variable: s.env(), Key: s.key, Message: err.Error()})
			s.flag.Envs, s.flag.Tag.Envs = nil, nil
		}
	}
	return wrong
}

// exposed warns of secrets in force that anybody on the host may read; d is the file that some are from.
func exposed(known []setting, values []shown, d *document) (wrong problems) {
	warn := func(i int, at, path string) {
		if !files.Exposed(kong.ExpandPath(path)) {
			return
		}
		p := problem{Key: at, Warning: true, Message: fmt.Sprintf("anybody on this host may read %s: chmod o-r %[1]s", path)}
		switch values[i].Source {
		case "file":
			p.File = d.name
			p.Line, p.Column = d.position(at)
		case "environment":
			p.Variable = known[i].env()
		}
		wrong = append(wrong, p)
	}
	for i, v := range values {
		known[i].eachSecret(v.whole, v.Key, func(at, path string) { warn(i, at, path) })
	}
	return wrong
}

// eachSecret calls f with the names of the files of secrets in a value, and where in the file of settings they would stand.
func (s setting) eachSecret(v any, at string, f func(at, path string)) {
	switch v := v.(type) {
	case string:
		if s.secret() && v != "" {
			f(at, v)
		}
	case []string:
		for _, path := range v {
			s.eachSecret(path, at, f)
		}
	case []any:
		for i, element := range v {
			s.eachSecret(element, fmt.Sprintf("%s[%d]", at, i), f)
		}
	case map[string]any:
		for key, value := range v {
			if field, ok := find(s.fields, key); ok {
				field.eachSecret(value, at+"."+key, f)
			} else {
				s.eachSecret(value, at+"."+key, f)
			}
		}
	}
}

type configDefault struct{}

// Run prints the file.
func (configDefault) Run(s *streams, app *kong.Kong) error {
	w := bufio.NewWriter(s.out)
	fmt.Fprintln(w, "# Every key of millpond serve --config FILE, with its default; what is left out, or has no value, is as here.")
	for _, setting := range settingsOf(app.Model) {
		fmt.Fprintln(w)
		setting.write(w, "", "")
	}
	return w.Flush()
}

// write writes the setting as lines of a file, each after the indent.
func (s setting) write(w io.Writer, indent, mark string) {
	fmt.Fprintf(w, "%s# %s\n", indent, strings.ReplaceAll(s.help, "\n", " "))
	if about := s.about(); about != "" {
		fmt.Fprintf(w, "%s# %s.\n", indent, about)
	}
	fmt.Fprintf(w, "%s%s\n", indent+mark, strings.TrimSpace(s.key+": "+s.value()))
	for i, f := range s.fields {
		item := "  "
		if i == 0 && s.kind() == "list of sections" {
			item = "- "
		}
		f.write(w, indent+"  ", "# "+item)
	}
}

// about is type, unit, and variable.
func (s setting) about() string {
	out := []string{strings.ToUpper(s.kind()[:1]) + s.kind()[1:]}
	if u := s.unit(); u != "" {
		out[0] += ": " + u
	}
	if s.flag != nil {
		out = append(out, "--"+s.flag.Name, s.env())
	}
	return strings.Join(out, "; ")
}

type configShow struct {
	serveCommand `embed:""`
	JSON         bool `name:"json" help:"Print it as JSON."`
}

// shown is a setting in force.
type shown struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Source string `json:"source"` // flag, environment, file or default
	whole  any    // the value with what is hidden
}

// Run prints what is in force. Secrets are in files, whose names it prints; what may be one in an address or a header is left out.
func (c *configShow) Run(ctx *kong.Context, s *streams) error {
	list := inForce(ctx, c.sections())
	if c.JSON {
		e := json.NewEncoder(s.out)
		e.SetIndent("", "  ")
		return e.Encode(list)
	}
	for _, v := range list {
		b, err := json.Marshal(v.Value)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(s.out, "%s: %s # %s\n", v.Key, b, v.Source); err != nil {
			return err
		}
	}
	return nil
}

// inForce are all settings as a command with the flags of serve was given them.
func inForce(ctx *kong.Context, values file) []shown {
	given := map[*kong.Value]bool{}
	for _, p := range ctx.Path {
		if p.Flag != nil && !p.Resolved {
			given[p.Flag.Value] = true
		}
	}
	flags := map[string]*kong.Flag{}
	for _, flag := range ctx.Flags() {
		flags[flag.Name] = flag
	}
	var list []shown
	for _, known := range settingsOf(ctx.Model) {
		out := shown{Key: known.key, Source: "default"}
		if values[known.key] != nil {
			out.Source = "file"
		}
		value := values[known.key]
		if known.flag != nil {
			flag := flags[known.flag.Name]
			if _, set := os.LookupEnv(known.env()); set {
				out.Source = "environment"
			}
			if given[flag.Value] {
				out.Source = "flag"
			}
			value = plain(flag.Target)
		}
		out.Value, out.whole = hidden(value), value
		list = append(list, out)
	}
	return list
}

// plain is the value of a flag as text, a list of texts, or nil.
func plain(v reflect.Value) any {
	switch {
	case v.Kind() == reflect.Pointer && v.IsNil():
		return nil
	case v.Kind() == reflect.Pointer:
		v = v.Elem()
	case v.Kind() == reflect.Slice:
		return v.Interface()
	}
	return fmt.Sprint(v.Interface())
}

// headersKey is the key of a webhook with values that may be secrets.
const headersKey = "http_static_headers"

// headerFilesKey is the key of a webhook with the files of such values.
const headerFilesKey = "http_static_header_files"

// hidden returns v without what may be a secret: users, passwords and queries in addresses, and values of headers.
func hidden(v any) any {
	switch v := v.(type) {
	case string:
		u, err := url.Parse(v)
		if err != nil && strings.Contains(v, "@") {
			return "hidden"
		}
		if err == nil && u.Host != "" && (u.User != nil || u.RawQuery != "") {
			u.User, u.RawQuery = nil, ""
			return u.String() + " (part of it hidden)"
		}
	case []string:
		out := make([]any, len(v))
		for i := range v {
			out[i] = hidden(v[i])
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = hidden(v[i])
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			if out[key] = hidden(value); key == headersKey {
				out[key] = "hidden"
			}
		}
		return out
	}
	return v
}
