package main

import "github.com/millpond/millpond/push"

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
	for _, k := range list {
		keys = append(keys, push.APIKey(k))
	}
	return keys, nil
}
