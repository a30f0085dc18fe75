package nats

import (
	"testing"

	"go.uber.org/goleak"
)

// The goroutine of embedded's startRouting stays.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*Server).StartRouting"))
}
