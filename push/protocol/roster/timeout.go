package roster

import (
	"context"
	"sync"
	"time"
)

// Timeout returns a context that ends after d. It has a timer only if somebody asks for Done: most commands of clients
// are carried out at once, and a timer for each would be a third of their garbage.
func Timeout(d time.Duration) (context.Context, context.CancelFunc) {
	t := &timeout{at: time.Now().Add(d)}
	return t, t.cancel
}

// timeout is a context whose inner one is made when it is needed.
type timeout struct {
	// Immutable.
	at time.Time

	// Guarded by mu.
	mu       sync.Mutex
	inner    context.Context //nolint:containedctx // it is one itself
	stop     context.CancelFunc
	canceled bool
}

var _ context.Context = (*timeout)(nil)

// Deadline implements context.Context.
func (t *timeout) Deadline() (time.Time, bool) { return t.at, true }

// Done implements context.Context.
func (t *timeout) Done() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.inner != nil:
	case t.canceled: // perhaps before the deadline, which would have another error
		t.inner, t.stop = context.WithCancel(context.Background())
		t.stop()
	default:
		t.inner, t.stop = context.WithDeadline(context.Background(), t.at)
	}
	return t.inner.Done()
}

// Err implements context.Context.
func (t *timeout) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.inner != nil:
		return t.inner.Err()
	case t.canceled:
		return context.Canceled
	case !time.Now().Before(t.at):
		return context.DeadlineExceeded
	}
	return nil
}

// Value implements context.Context.
func (*timeout) Value(any) any { return nil }

func (t *timeout) cancel() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.canceled = true
	if t.stop != nil {
		t.stop()
	}
}
