package roster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A Timeout is to everybody what context.WithTimeout returns.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, asked := range []bool{false, true} { // for Done, before it ends
			for _, cancelled := range []bool{false, true} {
				ctx, cancel := Timeout(time.Minute)
				at, ok := ctx.Deadline()
				if !ok || time.Until(at) != time.Minute || ctx.Err() != nil || ctx.Value("x") != nil {
					t.Errorf("at first: %v %v %v", at, ok, ctx.Err())
				}
				if asked {
					select {
					case <-ctx.Done():
						t.Error("done too early")
					default:
					}
				}
				time.Sleep(time.Minute - 1)
				if ctx.Err() != nil {
					t.Errorf("%v too early", ctx.Err())
				}
				want := context.DeadlineExceeded
				if cancelled {
					want = context.Canceled
					cancel()
				}
				time.Sleep(1 * time.Nanosecond)
				synctest.Wait()
				if err := ctx.Err(); !errors.Is(err, want) {
					t.Errorf("asked %t, cancelled %t: %v", asked, cancelled, err)
				}
				<-ctx.Done()
				if err := ctx.Err(); !errors.Is(err, want) {
					t.Errorf("asked %t, cancelled %t, after Done: %v", asked, cancelled, err)
				}
				child, stop := context.WithCancel(ctx)
				<-child.Done()
				stop()
				cancel()
				cancel()
			}
		}
		if n := testing.AllocsPerRun(100, func() {
			ctx, cancel := Timeout(time.Minute)
			_ = ctx.Err()
			cancel()
		}); n > 2 {
			t.Errorf("%v allocations", n)
		}
	})
}
