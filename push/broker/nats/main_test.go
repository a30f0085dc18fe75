package nats

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// A publisher that is closed at once after its first publication leaves this one of nats.go behind.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}
