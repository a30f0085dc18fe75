package embedded

import (
	"testing"

	"go.uber.org/goleak"
)

// The goroutine of startRouting's comment stays.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*Server).StartRouting"))
}
