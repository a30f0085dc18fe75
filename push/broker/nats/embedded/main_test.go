package embedded

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("MILLPOND_TEST_FAILING_DISK"); dir != "" {
		failingDisk(dir)
		return
	}
	goleak.VerifyTestMain(m)
}
