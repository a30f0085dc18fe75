package main

import (
	"fmt"

	"github.com/millpond/millpond/push"
)

// apiKey is a push.APIKey as the file has it.
type apiKey struct {
	Name              string   `yaml:"name"`
	KeyFile           string   `yaml:"key_file"`
	SHA256            string   `yaml:"sha256"`
	Scopes            []string `yaml:"scopes"`
	Channels          []string `yaml:"channels"`
	Namespaces        []string `yaml:"namespaces"`
	RequestsPerSecond float64  `yaml:"requests_per_second"`
	BytesPerSecond    float64  `yaml:"bytes_per_second"`
}

// loadAPIKeys reads api_keys from the file at path; no path, no keys.
func loadAPIKeys(path string) (keys []push.APIKey, err error) {
	f, err := readFile(path)
	if err != nil {
		return nil, err
	}
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
