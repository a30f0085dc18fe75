package sdk

import (
	"testing"

	"go.uber.org/goleak"
)

// ants has a pool of its own from the start, with two goroutines.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }
