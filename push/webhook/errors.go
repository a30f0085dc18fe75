package webhook

import (
	"errors"
	"fmt"
)

// Refusal is a backend's own error, for the client to read.
type Refusal struct {
	Code      uint32 `json:"code"` // 100 to 113, as the protocol has them, or 400 to 1999
	Message   string `json:"message"`
	Temporary bool   `json:"temporary"` // the same may succeed later
}

// Error implements error.
func (r *Refusal) Error() string { return fmt.Sprintf("the backend refuses: %d %s", r.Code, r.Message) }

// Disconnect is a backend's wish to end the connection.
type Disconnect struct {
	Code   uint16 `json:"code"` // 3001 to 4999
	Reason string `json:"reason"`
}

// Error implements error.
func (d *Disconnect) Error() string {
	return fmt.Sprintf("the backend disconnects: %d %s", d.Code, d.Reason)
}

// The errors of questions that were not answered. Their texts are for the log; they hold nothing of the client's.
var (
	ErrOverloaded = errors.New("too many questions wait") // nothing was sent
	ErrBreaker    = errors.New("the circuit breaker is open")
	ErrTimeout    = errors.New("no answer in time")
	ErrClosed     = errors.New("the server is shutting down")
	errConnection = errors.New("the connection failed")
	errStatus     = errors.New("the status is not 200")
	errUnreadable = errors.New("the answer is not what it should be")
	// ErrPayload is the error of a client's data that is no JSON, which an endpoint without Config.BinaryEncoding
	// cannot be sent.
	ErrPayload = errors.New("the client's data is not JSON")
)

// Outcome is how a question ended: the label of the metric, and the cause in the log.
type Outcome string

// The outcomes.
const (
	OutcomeOK         Outcome = "ok"
	OutcomeError      Outcome = "error"      // the backend's own
	OutcomeDisconnect Outcome = "disconnect" // likewise
	OutcomeTimeout    Outcome = "timeout"
	OutcomeConnection Outcome = "connection" // refused, reset, no such host, a bad certificate
	OutcomeStatus     Outcome = "status"     // not 200
	OutcomeUnreadable Outcome = "unreadable" // not JSON, wrong types, too long, codes out of range
	OutcomeOverloaded Outcome = "overloaded" // more than MaxWaiting wait, or the question waited too long
	OutcomeBreaker    Outcome = "breaker"    // open
	OutcomePayload    Outcome = "payload"    // not JSON, so it was not sent
	OutcomeClosed     Outcome = "closed"     // the server shuts down
)

var outcomes = []struct {
	is      error
	outcome Outcome
}{
	{ErrOverloaded, OutcomeOverloaded},
	{ErrBreaker, OutcomeBreaker},
	{ErrTimeout, OutcomeTimeout},
	{ErrClosed, OutcomeClosed},
	{ErrPayload, OutcomePayload},
	{errConnection, OutcomeConnection},
	{errStatus, OutcomeStatus},
	{errUnreadable, OutcomeUnreadable},
}

// outcomeOf returns how a question with that error ended.
func outcomeOf(err error) Outcome {
	var refusal *Refusal
	var disconnect *Disconnect
	switch {
	case err == nil:
		return OutcomeOK
	case errors.As(err, &refusal):
		return OutcomeError
	case errors.As(err, &disconnect):
		return OutcomeDisconnect
	}
	for _, o := range outcomes {
		if errors.Is(err, o.is) {
			return o.outcome
		}
	}
	return OutcomeConnection
}
