package main

import (
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// setting is one thing that can be configured. All that is said and checked of settings is made of the tags of serveCommand and of the structs
// of sections.
type setting struct {
	key    string
	help   string
	def    string   // as it would be written; empty: the zero value
	enum   []string // of a list: of each element
	bounds bounds
	typ    reflect.Type
	reload string     // what SIGHUP does: reloadValue, reloadContent, or "" for what needs a restart
	flag   *kong.Flag // nil in a section
	fields []setting  // of a section, or of each element of a list of sections
}

// What SIGHUP does about a setting.
const (
	reloadValue   = "value"   // it takes over another one
	reloadContent = "content" // it reads the file that is named again, or opens it
)

// sections are the keys of the file that are no flags: they say what channels and keys of the API can do, and what the application's
// backend is asked.
var sections = []setting{
	section("channels", "Options of channels whose names have no namespace.", channelOptions{}),
	section("namespaces", "Options of the channels of each namespace.", []namespaceOptions{}),
	section("webhooks", "What the application's backend is asked, and where.", []webhookOptions{}),
	section("rpc_namespaces", "Which webhook answers the calls whose methods begin with a name and a colon.", []rpcNamespace{}),
	section("api_keys", "Keys for parts of the API.", []apiKey{}),
}

func section(key, help string, v any) setting {
	t := reflect.TypeOf(v)
	return setting{key: key, help: help, typ: t, fields: fieldsOf(t), reload: reloadValue}
}

// fieldsOf are the settings in a struct, or in those of a list.
func fieldsOf(t reflect.Type) (list []setting) {
	if t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if option == "inline" {
			list = append(list, fieldsOf(f.Type)...)
			continue
		}
		s := setting{key: name, help: f.Tag.Get("help"), def: f.Tag.Get("default"), typ: f.Type}
		if enum := f.Tag.Get("enum"); enum != "" {
			s.enum = strings.Split(enum, ",")
		}
		s.bounds = parseBounds(f.Tag.Get("range"))
		if f.Type.Kind() == reflect.Pointer || f.Type.Kind() == reflect.Slice {
			s.fields = fieldsOf(f.Type)
		}
		list = append(list, s)
	}
	return list
}

// settingsOf are all of serve: its flags, in their order, and then the sections.
func settingsOf(app *kong.Application) (list []setting) {
	for _, command := range app.Children {
		if command.Name != "serve" {
			continue
		}
		for _, flag := range command.Flags {
			if flag.Name == "config" {
				continue
			}
			s := setting{key: key(flag), help: strings.ReplaceAll(flag.Help, "${enum}", flag.Enum), def: flag.Default, typ: flag.Target.Type(), flag: flag, reload: flag.Tag.Get("reload"), bounds: parseBounds(flag.Tag.Get("range"))}
			if flag.Enum != "" {
				s.enum = flag.EnumSlice()
			}
			list = append(list, s)
		}
	}
	return append(list, sections...)
}

// env is the name of its variable.
func (s setting) env() string {
	if s.flag == nil || len(s.flag.Envs) == 0 {
		return ""
	}
	return s.flag.Envs[0]
}

// file reports whether it names files that must be there.
func (s setting) file() bool {
	return s.flag != nil && s.flag.Tag.Type == "existingfile" || s.flag == nil && strings.HasSuffix(s.key, "_file")
}

// secret reports whether those files are nobody else's business.
func (s setting) secret() bool {
	for _, word := range []string{"secret", "password", "credentials", "token_file", "nkey", "api_key", "key_file", "ticket_keys", "tls_key"} {
		if strings.Contains(s.key, word) && !strings.Contains(s.key, "public") {
			return s.file()
		}
	}
	return s.key == headerFilesKey
}

var durationType = reflect.TypeFor[time.Duration]()

// kind is the type as the reference has it.
func (s setting) kind() string {
	t := s.typ
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == durationType:
		return "duration"
	case s.fields != nil && t.Kind() == reflect.Slice:
		return "list of sections"
	case s.fields != nil:
		return "section"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "list of strings"
	case reflect.Map:
		return "map of strings"
	case reflect.String:
		return "string"
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Uint32:
		if _, text := reflect.New(t).Interface().(interface{ UnmarshalText([]byte) error }); text {
			return "string"
		}
		return "integer"
	}
	panic(fmt.Sprintf("%s: no name for %v", s.key, s.typ))
}

// kindInWords is what a value is said not to be.
func (s setting) kindInWords() string {
	switch {
	case s.typ == reflect.TypeFor[slog.Level]():
		return "level: it is debug, info, warn or error"
	case s.kind() == "duration":
		return "duration, such as 300ms, 10s or 24h"
	}
	return s.kind()
}

// unit is that of a number, or empty.
func (s setting) unit() string {
	kind := s.kind()
	switch {
	case kind == "duration":
		return "time, such as 300ms, 10s or 24h"
	case kind != "integer" && kind != "number":
		return ""
	case strings.HasSuffix(s.key, "bytes_per_second"):
		return "bytes in a second"
	case strings.HasSuffix(s.key, "_per_second"), strings.HasSuffix(s.key, "_rate"):
		return "in a second"
	case strings.HasSuffix(s.key, "_per_minute"):
		return "in a minute"
	case strings.HasSuffix(s.key, "_bytes"), s.key == "memory_limit":
		return "bytes"
	}
	return ""
}

// value is the default as the file has it; empty, which is null there, for none.
func (s setting) value() string {
	if s.def != "" {
		if s.kind() == "list of strings" {
			return `["` + strings.ReplaceAll(s.def, ",", `", "`) + `"]`
		}
		if s.kind() == "string" {
			return fmt.Sprintf("%q", s.def)
		}
		return s.def
	}
	if s.typ.Kind() == reflect.Pointer {
		return ""
	}
	switch s.kind() {
	case "boolean":
		return "false"
	case "integer", "number":
		return "0"
	case "duration":
		return "0s"
	}
	return ""
}

// keysOf are the names of settings.
func keysOf(list []setting) (keys []string) {
	for _, s := range list {
		keys = append(keys, s.key)
	}
	return keys
}

// find returns the setting with that key.
func find(list []setting, key string) (setting, bool) {
	i := slices.IndexFunc(list, func(s setting) bool { return s.key == key })
	if i < 0 {
		return setting{}, false
	}
	return list[i], true
}
