package main

import (
	"fmt"

	"github.com/millpond/millpond/push"
)

// apiKey is a push.APIKey as the file has it.
type apiKey struct {
	Name              string   `yaml:"name" help:"What logs and metrics call it."`
	KeyFile           string   `yaml:"key_file" help:"File with the key, in one line."`
	SHA256            string   `yaml:"sha256" help:"Or its SHA-256, in hexadecimal digits."`
	Scopes            []string `yaml:"scopes" enum:"publish,read,manage,debug,tap,tap_payload,dashboard" help:"What it may do; left out: all but tap_payload."`
	Channels          []string `yaml:"channels" help:"Channels that it is good for; left out: all."`
	Namespaces        []string `yaml:"namespaces" help:"Namespaces that it is good for; left out: all."`
	RequestsPerSecond float64  `yaml:"requests_per_second" range:"0:" help:"Requests in a second; 0: as --api-requests-per-second says."`
	BytesPerSecond    float64  `yaml:"bytes_per_second" range:"0:" help:"Bytes of requests in a second; 0: as --api-bytes-per-second says."`
}

// loadAPIKeys makes keys of api_keys.
func loadAPIKeys(f file) (keys []push.APIKey, err error) {
	var list []apiKey
	if err := strictly(f, "api_keys", &list); err != nil {
		return nil, err
	}
	for i, k := range list {
		if err := checkBounds(f, i); err != nil {
			return nil, err
		}
		keys = append(keys, push.APIKey(k))
	}
	return keys, nil
}

// checkBounds refuses an entry whose bounds are there and say nothing: what is left out does not bound a key, and a value that was
// forgotten must not open everything.
func checkBounds(f file, i int) error {
	entries, _ := f["api_keys"].([]any)
	if i >= len(entries) {
		return nil
	}
	entry, _ := entries[i].(map[string]any)
	for _, name := range []string{"channels", "namespaces", "scopes"} {
		if value, there := entry[name]; there && value == nil {
			return fmt.Errorf("config: api_keys[%d].%s: has no value", i, name)
		}
	}
	return nil
}
