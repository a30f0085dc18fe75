package nats

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nkeys"
)

// A seed is read again for each connection, unless it cannot be: it came out of a pipe, or is gone.
func TestCredentialsAreReadAgain(t *testing.T) {
	signed := func(seed string) []byte {
		pair, err := nkeys.FromSeed([]byte(seed))
		if err != nil {
			t.Fatal(err)
		}
		b, err := pair.Sign([]byte("nonce"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	seed := func() string {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		b, _ := pair.Seed()
		return string(b)
	}
	signs := func(c *credentials, seed string) {
		t.Helper()
		if b, err := c.sign([]byte("nonce")); err != nil || !bytes.Equal(b, signed(seed)) {
			t.Errorf("another signature, %v", err)
		}
	}
	one, two := seed(), seed()
	c := &credentials{path: write(t, "seed", one)}
	signs(c, one)
	if err := os.WriteFile(c.path, []byte(two), 0o600); err != nil {
		t.Fatal(err)
	}
	signs(c, two)
	if err := os.Remove(c.path); err != nil {
		t.Fatal(err)
	}
	signs(c, two)
	if err := syscall.Mkfifo(c.path, 0o600); err != nil {
		t.Fatal(err)
	}
	written := make(chan error)
	go func() { written <- os.WriteFile(c.path, []byte(one), 0o600) }()
	piped := &credentials{path: c.path}
	signs(piped, one)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	signs(piped, one)

	endless := &credentials{path: "/dev/zero"}
	for what, f := range map[string]func() error{
		"user": func() error { _, err := endless.user(); return err },
		"seed": func() error { _, err := endless.seed(); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), "has more than") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
