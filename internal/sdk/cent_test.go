package sdk

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// calls has what each call of a library of the API must come to: a pattern of the result, or of the error.
type calls []struct{ name, want string }

// check reads a program's lines.
func (c calls) check(t *testing.T, output []byte) {
	t.Helper()
	lines := bytes.Split(bytes.TrimSpace(output), []byte{'\n'})
	for i, want := range c {
		if i >= len(lines) {
			t.Fatalf("%s did not come", want.name)
		}
		var line struct {
			Name   string
			Result json.RawMessage
			Error  string
		}
		if err := json.Unmarshal(lines[i], &line); err != nil || line.Name != want.name {
			t.Fatalf("line %d: %s, want %s", i, lines[i], want.name)
		}
		got := line.Error
		if got == "" {
			got = string(line.Result)
		}
		if !regexp.MustCompile(`^(?:` + want.want + `)$`).MatchString(got) {
			t.Errorf("%s: %s, want %s", want.name, got, want.want)
		}
	}
}

func backendWorld(t *testing.T) string {
	t.Helper()
	w, err := newWorld(t, worldOptions{}, "*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
	return "http://" + w.server.InternalAddr().String()
}

// The library cent.js, by which Node talks to Centrifugo's API, works as it is.
func TestCentJS(t *testing.T) {
	need(t)
	if _, err := os.ReadFile("cent.mjs"); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "node", "cent.mjs", backendWorld(t), "key")
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	calls{
		{"publish", `\{"offset":1,"epoch":"\w+"\}`},
		{"broadcast", `\{"responses":\[\{"result":\{"offset":2,.*\},\{"result":\{.*\}\}\]\}`},
		{"publish to nowhere", `"\[object Object\]"`}, // what the library makes of an error
		{"history", `\{"publications":\[\{"data":\{"n":2\},"offset":2\},\{"data":\{"n":1\},"offset":1,"tags":\{"k":"v"\}\}\],"epoch":"\w+","offset":2\}`},
		{"presence", `\{"presence":\{\}\}`},
		{"presence stats", `\{"num_clients":0,"num_users":0\}`},
		{"channels", `\{"channels":\{\}\}`},
		{"info", `\{"nodes":\[\{"uid":.*"version":"1.2.3".*\}\]\}`},
		{"subscribe", `\{\}`},
		{"unsubscribe", `\{\}`},
		{"refresh", `\{\}`},
		{"disconnect", `\{\}`},
		{"pipeline", `\[\{"offset":3,"epoch":"\w+"\},\{"num_clients":0,"num_users":0\}\]`},
		{"history remove", `\{\}`},
	}.check(t, output)
}

// The library gocent, by which Go talks to Centrifugo's API, works as it is. It is in a module of its own.
func TestGocent(t *testing.T) {
	command := exec.CommandContext(t.Context(), "go", "run", ".", backendWorld(t), "key")
	command.Dir, command.Stderr = "gocent", os.Stderr
	for _, file := range []string{"gocent/main.go", "gocent/go.mod", "gocent/go.sum"} {
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	calls{
		{"publish", `null`},
		{"broadcast", `null`},
		{"publish to nowhere", `unknown channel: .*: 102`},
		{"history", `0`}, // without a limit it is the position alone
		{"presence", `0`},
		{"presence stats", `\{"num_users":0,"num_clients":0\}`},
		{"info", `1`},
		{"unsubscribe", `null`},
		{"disconnect", `null`},
		{"pipe", `\[\{"error":null,"result":\{"offset":3,.*\}\},\{"error":\{"code":102,.*\},\{"error":null,"result":\{"publications":\[\].*\]`},
		{"history remove", `null`},
	}.check(t, output)
}
