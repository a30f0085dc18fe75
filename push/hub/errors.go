package hub

import (
	"errors"
	"sync/atomic"
)

// Error is a refusal that a client or a backend may read. Code is stable and
// part of the protocols; the numbers are those of the Centrifuge protocol.
// Details are added by wrapping: fmt.Errorf("%w: name is empty", ErrBadRequest).
type Error struct {
	Code    uint32
	Message string
	// Temporary says that the same request may succeed later, unchanged.
	Temporary bool
}

// Error returns the message without the code.
func (e *Error) Error() string { return e.Message }

// The refusals of the push server. Compare with errors.Is.
var (
	ErrInternal         = &Error{Code: 100, Message: "internal server error", Temporary: true}
	ErrUnauthorized     = &Error{Code: 101, Message: "unauthorized"}
	ErrUnknownChannel   = &Error{Code: 102, Message: "unknown channel"}
	ErrPermissionDenied = &Error{Code: 103, Message: "permission denied"}
	ErrMethodNotFound   = &Error{Code: 104, Message: "method not found"}
	ErrSubscribed       = &Error{Code: 105, Message: "already subscribed"}
	ErrLimitExceeded    = &Error{Code: 106, Message: "limit exceeded"}
	ErrBadRequest       = &Error{Code: 107, Message: "bad request"}
	ErrNotAvailable     = &Error{Code: 108, Message: "not available"}
	ErrTokenExpired     = &Error{Code: 109, Message: "token expired"}
	ErrExpired          = &Error{Code: 110, Message: "expired"}
	ErrTooManyRequests  = &Error{Code: 111, Message: "too many requests", Temporary: true}
	ErrUnrecoverable    = &Error{Code: 112, Message: "unrecoverable position"}
	// ErrUnavailable is our own: some of what takes part did not answer in time.
	ErrUnavailable = &Error{Code: 114, Message: "temporarily unavailable", Temporary: true}
)

// ErrorOf returns the refusal with a code; ErrInternal if there is none.
func ErrorOf(code uint32) *Error {
	for _, e := range [...]*Error{
		ErrUnauthorized, ErrUnknownChannel, ErrPermissionDenied, ErrMethodNotFound, ErrSubscribed, ErrLimitExceeded, ErrBadRequest,
		ErrNotAvailable, ErrTokenExpired, ErrExpired, ErrTooManyRequests, ErrUnrecoverable, ErrUnavailable,
	} {
		if e.Code == code {
			return e
		}
	}
	return ErrInternal
}

// Describe returns the code of err and the words to show for it. An error that
// wraps no *Error is an internal one: its text stays in the server's log, since
// it may name hosts and files.
func Describe(err error) (code uint32, message string) {
	var refusal *Error
	if errors.As(err, &refusal) {
		return refusal.Code, err.Error()
	}
	return ErrInternal.Code, ErrInternal.Message
}

// Codes from firstRefusal on are counted, so many of them.
const (
	firstRefusal = 100
	refusalCodes = 20
)

// Refusals counts refusals by their codes. The zero value is ready; any goroutine may call the methods.
type Refusals struct {
	counts [refusalCodes]atomic.Uint64
}

// Count counts one. A code that no Error of this package has is left out.
func (r *Refusals) Count(code uint32) {
	if i := code - firstRefusal; i < refusalCodes { // unsigned: smaller codes are out of range too
		r.counts[i].Add(1)
	}
}

// Counts returns how many there were by code; codes that did not occur are absent.
func (r *Refusals) Counts() map[uint32]uint64 {
	counts := map[uint32]uint64{}
	for i := range r.counts {
		if n := r.counts[i].Load(); n > 0 {
			counts[firstRefusal+uint32(i)] = n
		}
	}
	return counts
}
