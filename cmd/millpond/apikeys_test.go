package main

import (
	"strings"
	"testing"

	"github.com/millpond/millpond/push"
)

// The file's keys arrive as they are, and what it has no name for is an error.
func TestAPIKeysOfTheFile(t *testing.T) {
	for content, want := range map[string]string{
		"listen: [':1']": "",
		"api_keys:\n  - name: a\n    key_file: /x\n    scopes: [publish]\n    namespaces: ['', orders]\n    channels: ['b:*']\n    requests_per_second: 2.5\n    bytes_per_second: 1000\n": "a",
		"api_keys:\n  - name: a\n    sha265: abc\n":                   `unknown field "sha265"`,
		"api_keys:\n  - name: a\n    scopes: read\n":                  "api_keys",
		"api_keys:\n  - name: a\n    key_file: /x\n    namespaces:\n": "api_keys[0].namespaces: has no value",
		"api_keys: 5\n": "api_keys",
	} {
		d, err := newDocument("", []byte(content))
		if err != nil {
			t.Fatal(err)
		}
		keys, err := loadAPIKeys(d.values)
		switch {
		case want == "":
			if len(keys) != 0 || err != nil {
				t.Errorf("%q: %v %v", content, keys, err)
			}
		case want == "a":
			if err != nil || len(keys) != 1 {
				t.Fatal(keys, err)
			}
			k := keys[0]
			if k.Name != "a" || k.KeyFile != "/x" || k.Scopes[0] != "publish" || len(k.Namespaces) != 2 || k.Channels[0] != "b:*" || k.RequestsPerSecond != 2.5 || k.BytesPerSecond != 1000 {
				t.Errorf("%+v", k)
			}
		case err == nil || !strings.Contains(err.Error(), want):
			t.Errorf("%q: %v, want %s", content, err, want)
		}
	}
}

// A server that only has keys of the file may listen for backends elsewhere, and one with a fault in them does not start.
func TestServeWithNamedKeys(t *testing.T) {
	c := push.Config{
		Listen: []string{"127.0.0.1:0"}, InternalListen: "0.0.0.0:0", TokenSecret: []byte(strings.Repeat("s", 32)),
		NamedAPIKeys: []push.APIKey{{Name: "a", SHA256: "abc"}},
	}
	if err := c.Validate(); err != nil {
		t.Errorf("with keys: %v", err)
	}
	if _, err := push.New(c); err == nil || !strings.Contains(err.Error(), `api_keys: "a": sha256: it is not 64`) {
		t.Errorf("a fault: %v", err)
	}
	c.NamedAPIKeys = nil
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "api-key-file") {
		t.Errorf("without keys: %v", err)
	}
}
