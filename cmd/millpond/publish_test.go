package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// cuttable forwards connections until they are cut.
type cuttable struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	group sync.WaitGroup
}

func newCuttable(t *testing.T, to string) *cuttable {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cuttable{Listener: l}
	p.group.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			p.group.Go(func() { _, _ = io.Copy(in, out) })
			p.group.Go(func() { _, _ = io.Copy(out, in) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.group.Wait()
	})
	return p
}

// cut ends the connections that are there, and reports whether there were any.
func (p *cuttable) cut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	n := len(p.conns)
	p.conns = nil
	return n > 0
}

// What publish sends, subscribe prints, each once and in order, though the network is cut in between.
func TestPublishAndSubscribe(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret := strings.Repeat("s", 32)
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ann"}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	keys := write("keys", "first\nsecond\n")
	p := startProcess(t, "--token-hmac-secret-file", write("secret", secret), "--api-key-file", keys, "--config", write("config.yaml",
		"namespaces:\n  - name: news\n    history_size: 100\n    history_ttl: 300s\n    force_recovery: true\n    allow_subscribe_for_client: true\n"))
	proxy := newCuttable(t, p.public)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reader, writer := io.Pipe()
	done := make(chan int, 1)
	go func() {
		var errs strings.Builder
		code := run(ctx, []string{"subscribe", "--url=ws://" + proxy.Addr().String(), "--token-file", write("token", token), "--count=30", "news:a"}, writer, &errs)
		t.Log(errs.String())
		_ = writer.Close()
		done <- code
	}()
	p.awaitMetric("millpond_subscriptions 1")
	lines := bufio.NewScanner(reader)
	for i := range 30 {
		var out, errs strings.Builder
		args := []string{"publish", "--url=http://" + p.internal, "--api-key-file", keys, "--tag=n=" + fmt.Sprint(i), "news:a", fmt.Sprintf(`{"n":%d}`, i)}
		if code := run(t.Context(), args, &out, &errs); code != 0 {
			t.Fatalf("%d: %s", code, errs.String())
		}
		if i%10 == 4 && !proxy.cut() {
			t.Error("nothing to cut")
		}
		if i%10 != 9 {
			continue // what was cut off is read when it is back
		}
		for want := i - 9; want <= i; want++ {
			if !lines.Scan() {
				t.Fatalf("it ended before %d", want)
			}
			var m struct {
				Data struct{ N int }
				Tags map[string]string
			}
			if err := json.Unmarshal(lines.Bytes(), &m); err != nil || m.Data.N != want || m.Tags["n"] != fmt.Sprint(want) {
				t.Fatalf("%s, want %d, %v", lines.Text(), want, err)
			}
		}
	}
	if code := <-done; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// What cannot go well ends with a reason.
func TestPublishAndSubscribeRefused(t *testing.T) {
	p := startProcess(t, "--dev")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	strict := startProcess(t, "--token-hmac-secret-file", secret)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"publish", "--url=http://" + p.internal, "a", "hello"}, "not JSON"},
		{[]string{"publish", "--url=http://" + p.internal, "", "1"}, "channel"},
		{[]string{"publish", "--url=http://" + strict.internal, "a", "1"}, "unauthorized"},
		{[]string{"publish", "--url=http://127.0.0.1:1", "a", "1"}, "refused"},
		{[]string{"publish", "--url=http://" + p.public, "a", "1"}, "is not the API's"},
		{[]string{"subscribe", "--url=ws://" + strict.public, "a"}, "log in"},
		{[]string{"subscribe", "--url=ws://" + p.public + "/no", "a"}, "404"},
		{[]string{"subscribe", "--url=ws://" + p.public, "a", "a"}, "named twice"},
	} {
		var out, errs strings.Builder
		if code := run(t.Context(), c.args, &out, &errs); code != 1 || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%q: %d %s", c.args, code, errs.String())
		}
	}
	var out, errs strings.Builder
	if code := run(t.Context(), []string{"publish", "--url=http://" + p.internal, "--string", "a", "hello"}, &out, &errs); code != 0 || out.String() == "" {
		t.Errorf("%d %s", code, errs.String())
	}
}
