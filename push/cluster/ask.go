package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrBusy says that as many questions are under way as may be.
var ErrBusy = errors.New("as many questions to other nodes are under way as may be")

// ErrTooLarge says that the nodes had more to answer than Limits.MaxAnswerBytes, or that the question itself is too large.
var ErrTooLarge = errors.New("more bytes than nodes may tell each other")

// Incomplete is the error for a question that not all nodes have answered. The others did.
type Incomplete struct {
	Missing []string // what they are called, and why
}

// Error implements error.
func (e *Incomplete) Error() string {
	return "not all nodes have answered: " + strings.Join(e.Missing, "; ")
}

// Question is one that was put to all other nodes. Wait must be called once.
type Question struct {
	// Immutable after Ask.
	cluster *Cluster
	id      uint64
	ends    time.Time

	// Guarded by mu.
	mu      sync.Mutex
	waiting map[string]*answering // nodes that have not answered
	missing []string              // those that will not
	late    bool                  // some of them because of the time
	parts   []part                // that were not taken yet
	bytes   int                   // of all parts
	refusal *Refusal              // the first
	err     error                 // it is over
	wake    chan struct{}         // has one entry when something has changed
}

// answering is what is known of a node's answer.
type answering struct {
	label string
	next  int // part
}

type part struct {
	node string
	body []byte
}

// Ask puts a question to all nodes that are known now. It does not wait: so whoever asks can do meanwhile what is to be
// done here.
func (k *Cluster) Ask(method string, body []byte) (*Question, error) {
	timeout := k.config.AskTimeout
	q := &Question{cluster: k, ends: time.Now().Add(timeout), waiting: map[string]*answering{}, wake: make(chan struct{}, 1)}
	if err := k.register(q); err != nil {
		return nil, err
	}
	err := k.publish(subjectAsks, &message{Kind: kindAsk, ID: q.id, Method: method, Body: body, Millis: timeout.Milliseconds(), Most: k.config.MaxAnswerBytes})
	if err != nil {
		k.drop(q)
		if errors.Is(err, ErrTooLarge) {
			return nil, err
		}
		k.counts.incomplete.Add(1)
		return nil, &Incomplete{Missing: []string{"the bus does not take the question: " + err.Error()}}
	}
	k.counts.asked.Add(1)
	return q, nil
}

// register gives q its number and its nodes.
func (k *Cluster) register(q *Question) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed:
		return ErrClosed
	case len(k.questions) >= k.config.MaxAsks:
		k.counts.busy.Add(1)
		return ErrBusy
	}
	k.lastID++
	q.id = k.lastID
	k.questions[q.id] = q
	for uid, n := range k.nodes {
		if n.Foreign {
			q.missing = append(q.missing, n.label()+" speaks another version")
			continue
		}
		q.waiting[uid] = &answering{label: n.label()}
	}
	if time.Since(k.crowded) < k.config.Timeout {
		q.missing = append(q.missing, "there are more nodes than cluster-max-nodes")
	}
	return nil
}

func (k *Cluster) drop(q *Question) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.questions, q.id)
}

// Wait calls take, if it is not nil, for each part of the answers, one at a time, and returns when all nodes have answered, when
// take says that it knows enough, or when the time is over. The error is an *Incomplete, a *Refusal, ErrTooLarge, that of take or ctx.
func (q *Question) Wait(ctx context.Context, take func(node string, body []byte) (enough bool, err error)) error {
	defer q.cluster.drop(q)
	timer := time.NewTimer(time.Until(q.ends))
	defer timer.Stop()
	for {
		parts, over := q.take()
		for _, p := range parts {
			if take == nil {
				break
			}
			if enough, err := take(p.node, p.body); enough || err != nil {
				return err
			}
		}
		if over {
			return q.outcome()
		}
		select {
		case <-q.wake:
		case <-timer.C:
			q.expire()
		case <-ctx.Done():
			return ctx.Err()
		case <-q.cluster.stopped.Done():
			return ErrClosed
		}
	}
}

// take returns what has come, and whether that is all.
func (q *Question) take() (parts []part, over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	parts = q.parts
	q.parts = nil
	return parts, q.err != nil || len(q.waiting) == 0
}

// expire gives up those that have not answered.
func (q *Question) expire() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for uid, a := range q.waiting {
		q.missing = append(q.missing, fmt.Sprintf("%s did not answer within %v", a.label, q.cluster.config.AskTimeout))
		q.late = true
		delete(q.waiting, uid)
	}
}

// outcome is the error of a question that is over.
func (q *Question) outcome() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := &q.cluster.counts
	switch {
	case q.err != nil:
		c.tooLarge.Add(1)
		return q.err
	case len(q.missing) > 0:
		if q.late {
			c.timeouts.Add(1)
		} else {
			c.incomplete.Add(1)
		}
		slices.Sort(q.missing)
		return &Incomplete{Missing: q.missing}
	case q.refusal != nil:
		c.answered.Add(1)
		return q.refusal
	}
	c.answered.Add(1)
	return nil
}

// onOwn takes what is sent to this node alone.
func (k *Cluster) onOwn(m message) {
	switch m.Kind {
	case kindBeat:
		k.hear(m)
	case kindAnswer:
		k.mu.Lock()
		q := k.questions[m.ID]
		k.mu.Unlock()
		if q == nil || !q.answer(m) {
			k.ignore(ignoredLate)
		}
	default:
		k.ignore(ignoredKind)
	}
}

// answer notes a part of a node's answer, and reports whether one was wanted.
func (q *Question) answer(m message) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	a := q.waiting[m.From]
	if a == nil || q.err != nil {
		return false
	}
	defer q.changedLocked()
	switch {
	case m.Part != a.next:
		q.missing = append(q.missing, a.label+" has sent an answer in which a part is missing")
		delete(q.waiting, m.From)
		return true
	case m.Error != nil:
		q.refusedLocked(a, m.Error)
	case len(m.Body) > 0:
		q.parts = append(q.parts, part{m.From, m.Body}) // of json.Unmarshal, which has made a copy
		if q.bytes += len(m.Body); q.bytes > q.cluster.config.MaxAnswerBytes {
			q.err, q.parts = q.tooLarge(), nil
		}
	}
	if a.next++; m.Last {
		delete(q.waiting, m.From)
	}
	return true
}

// refusedLocked notes that a node does not answer. mu is held.
func (q *Question) refusedLocked(a *answering, r *Refusal) {
	switch r.Code {
	case codeUnsupported, codeBusy, codeFailed:
		q.missing = append(q.missing, a.label+": "+clip(r.Message))
	case codeTooLarge:
		q.err = q.tooLarge()
	default:
		if q.refusal == nil {
			q.refusal = r
		}
	}
}

func (q *Question) tooLarge() error {
	return fmt.Errorf("%w: the answers have more than cluster-max-answer-bytes, %d", ErrTooLarge, q.cluster.config.MaxAnswerBytes)
}

// clip shortens another node's text.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func (q *Question) changedLocked() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// without gives up a node that is gone: with its connections, if it has said so.
func (q *Question) without(uid string, left bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if a := q.waiting[uid]; a != nil {
		if !left {
			q.missing = append(q.missing, a.label+" is not heard of any more")
		}
		delete(q.waiting, uid)
		q.changedLocked()
	}
}
