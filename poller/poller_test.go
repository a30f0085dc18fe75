package poller

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNew(t *testing.T) {
	p, err := New(Config{Loops: 2})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Stats().Conns; got != 0 {
		t.Errorf("%d connections after the self-test", got)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}
