package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// Answer is what a Method answers. It belongs to the Method's goroutine.
type Answer struct {
	cluster *Cluster
	to      string
	id      uint64
	most    int // bytes of all parts
	bytes   int
	part    int
	pending []json.RawMessage // entries that are not sent
	size    int               // of them
}

// errTooMuch ends a method whose answer nobody would take.
var errTooMuch = &Refusal{Code: codeTooLarge, Message: "the answer is too large"}

// Add adds an entry. The bodies that the asking node takes are JSON arrays of entries, of one kind or several. The error ends the method.
func (a *Answer) Add(entry any) error {
	b, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	if a.bytes += len(b) + 1; a.bytes > a.most {
		return errTooMuch
	}
	if a.size+len(b) > maxPartBytes && len(a.pending) > 0 {
		if err := a.send(false, nil); err != nil {
			return err
		}
	}
	a.pending = append(a.pending, b)
	a.size += len(b) + 1
	return nil
}

// send sends what was added.
func (a *Answer) send(last bool, refusal *Refusal) error {
	m := &message{Kind: kindAnswer, ID: a.id, Part: a.part, Last: last, Error: refusal}
	if len(a.pending) > 0 && refusal == nil {
		var err error
		if m.Body, err = json.Marshal(a.pending); err != nil {
			return err
		}
	}
	a.pending, a.size = nil, 0
	a.part++
	return a.cluster.publish(subjectNode+a.to, m)
}

// end sends the last part.
func (a *Answer) end(err error) {
	var refusal *Refusal
	if err != nil && !errors.As(err, &refusal) {
		a.cluster.config.Logger.Error("cluster: a question of another node", "node", a.to, "error", err)
		refusal = &Refusal{Code: codeFailed, Message: "internal error; the log says more"}
	}
	if refusal != nil {
		refusal = &Refusal{Code: refusal.Code, Message: clip(refusal.Message)}
	}
	if err := a.send(true, refusal); err != nil { // the asking node notices that nothing comes
		a.cluster.config.Logger.Warn("cluster: an answer was not sent", "node", a.to, "error", err)
	}
}

// onAsk has a question answered.
func (k *Cluster) onAsk(m message) {
	if m.Kind != kindAsk {
		k.ignore(ignoredKind)
		return
	}
	a := &Answer{cluster: k, to: m.From, id: m.ID, most: min(m.Most, k.config.MaxAnswerBytes)}
	method := k.config.Methods[m.Method]
	if method == nil {
		a.end(&Refusal{Code: codeUnsupported, Message: fmt.Sprintf("this version (%s) knows no %q", k.config.Version, m.Method)})
		return
	}
	select {
	case k.serving <- struct{}{}:
	default:
		k.counts.turnedAway.Add(1)
		a.end(&Refusal{Code: codeBusy, Message: ErrBusy.Error()})
		return
	}
	timeout := time.Duration(min(m.Millis, k.config.AskTimeout.Milliseconds())) * time.Millisecond
	begun := k.Go(func() {
		defer func() { <-k.serving }()
		ctx, cancel := context.WithTimeout(k.stopped, timeout)
		defer cancel()
		k.counts.served.Add(1)
		a.end(k.call(ctx, method, m.Body, a))
	})
	if !begun {
		<-k.serving
	}
}

// call makes an error of a panic.
func (k *Cluster) call(ctx context.Context, method Method, body []byte, a *Answer) (err error) {
	defer func() {
		if v := recover(); v != nil {
			k.counts.panics.Add(1)
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return method(ctx, body, a)
}
