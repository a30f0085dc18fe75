package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millpond/millpond/bench/report"
	"github.com/millpond/millpond/bench/verify"
)

// questions are what backends ask the API beside publishing: who is in a channel, and what was published there. Answers
// are checked. Any goroutine.
type questions struct {
	// Immutable.
	press      *press
	prefix     string
	publishers int // of each channel
	everywhere int // channels, the first ones, in which messages to several are published, too
	most       int // who may be in a channel

	// Guarded by mu.
	mu    sync.Mutex
	kinds map[string]*inquiry
}

// inquiry is what was found of one kind of question.
type inquiry struct {
	latency *report.Distribution
	refused int64 // answers that the channel has no such thing
	wrong   int64
	faults  faults
	holes   faults // that are faults unless the server's offsets have gaps
}

// The kinds.
const (
	askPresence = "presence"
	askHistory  = "history"
)

func newQuestions(a *audience, most int) *questions {
	q := &questions{press: a.press, prefix: a.config.Prefix, publishers: a.config.Publishers, everywhere: a.config.Everywhere, most: most, kinds: map[string]*inquiry{}}
	for _, kind := range []string{askPresence, askHistory} {
		q.kinds[kind] = &inquiry{latency: report.NewDistribution(kind+" by the API", "ns")}
	}
	return q
}

var (
	// errUntrue is an answer that cannot be.
	errUntrue = errors.New("the API's answer is wrong")
	// errHole is one that cannot be if the server's offsets rise by one, which is known when all is over.
	errHole = errors.New("offsets are missing")
)

// ask asks one question about channel k, which was due at a time of the clock. An answer that is wrong is counted, one
// that does not come is an error.
func (q *questions) ask(ctx context.Context, kind string, k int, due int64) (err error) {
	if kind == askPresence {
		err = q.presence(ctx, k)
	} else {
		err = q.history(ctx, k)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	of := q.kinds[kind]
	known, err := of.judged(err)
	if known {
		of.latency.Record(monotonic() - due)
	}
	return err
}

// judged counts an answer that is refused, or wrong, and returns any other error; known says that there was an answer.
// The lock is held.
func (a *inquiry) judged(err error) (known bool, _ error) {
	switch {
	case unavailable(err):
		a.refused++
		return false, nil
	case errors.Is(err, errHole):
		a.holes.add(err)
		return true, nil
	case errors.Is(err, errUntrue):
		a.wrong++
		a.faults.add(err)
		return true, nil
	}
	return err == nil, err
}

// presence asks who is in a channel: no more than there are.
func (q *questions) presence(ctx context.Context, k int) error {
	n, err := q.press.api.presence(ctx, channelName(q.prefix, k))
	if err == nil && n > q.most {
		err = fmt.Errorf("%w: presence lists %d clients, and there are at most %d", errUntrue, n, q.most)
	}
	return err
}

// historyLimit is how many publications are asked for: what one sees who opens a page.
const historyLimit = 10

// history asks for the last publications of a channel: they are whole, without gaps, and go at least as far as what was
// accepted before.
func (q *questions) history(ctx context.Context, k int) error {
	t := &q.press.tops[k]
	t.mu.Lock()
	last, published := t.last, t.published
	t.mu.Unlock()
	name := channelName(q.prefix, k)
	h, err := q.press.api.history(ctx, name, historyLimit)
	if err != nil {
		return err
	}
	in := verify.Channel{Sum: verify.Sum(name), Publishers: q.publishers, Everywhere: k < q.everywhere, Gaps: q.press.gaps.Load()}
	err = h.check(in, last, min(published, historyLimit), q.press.strict)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%w: history: %w", errUntrue, err)
	if in.Gaps = true; !q.press.strict && h.check(in, last, min(published, historyLimit), false) == nil {
		return fmt.Errorf("%w: %w", errHole, err)
	}
	return err
}

// check looks at a history of a channel that had come to an offset before it was asked for, and of which it must have
// so many publications: of another server only if it has any at all, for that may keep less.
func (h *history) check(in verify.Channel, last uint64, least int64, strict bool) error {
	if h.Offset < last {
		return fmt.Errorf("it ends with %d, and %d was accepted before", h.Offset, last)
	}
	if int64(len(h.Publications)) < least && strict || len(h.Publications) > historyLimit {
		return fmt.Errorf("it has %d publications", len(h.Publications))
	}
	var track verify.Track
	var counts verify.Counts
	for i, p := range slices.Backward(h.Publications) {
		if i == len(h.Publications)-1 {
			track.Place(h.Epoch, p.Offset-1)
		}
		stamp, err := verify.Parse(p.Data)
		if err != nil {
			return err
		}
		track.Take(&counts, in, stamp, p.Offset)
	}
	if !in.Gaps {
		track.Settle(&counts, h.Offset)
	}
	return counts.Err()
}

// await returns when so many are in channel k, or counts a wrong answer if they are not in time.
func (q *questions) await(ctx context.Context, k, want int, timeout time.Duration) error {
	var n int
	var failed error
	err := await(ctx, timeout, func() bool {
		n, failed = q.press.api.present(ctx, channelName(q.prefix, k))
		return failed != nil || n == want
	})
	if err = errors.Join(err, failed); err == nil && n != want {
		err = fmt.Errorf("%w: presence has %d clients in a channel of %d", errUntrue, n, want)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	_, err = q.kinds[askPresence].judged(err)
	return err
}

// figures adds what was found, when nothing more is published.
func (q *questions) figures(r *Run, took time.Duration) {
	gaps := q.press.gapped()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, kind := range []string{askPresence, askHistory} {
		of := q.kinds[kind]
		for what, n := range of.holes.all() {
			if !gaps {
				of.wrong += int64(n)
				r.Report.Fail(what, n)
			}
		}
		r.Report.Add(
			report.Figure{
				Name: kind + "-calls/s", Value: float64(of.latency.Count()) / max(took.Seconds(), 1e-9), Unit: "/s", Higher: true,
				Text: "calls of the API's " + kind + " that were answered",
			},
			report.Figure{
				Name: kind + "-faults", Value: float64(of.wrong), Budget: report.MustLimit(kind + "-faults>0"), Join: report.Sum,
				Text: "answers that were wrong",
			},
		)
		r.latencyFigures(of.latency, kind+"-", "from when a call of the API's "+kind+" was due until it was answered")
		for what, n := range of.faults.all() {
			r.Report.Fail(what, n)
		}
		if of.refused > 0 {
			r.Report.Warn(fmt.Sprintf("%d calls of %s were refused: the channels have none, or it may not be asked for", of.refused, kind))
		}
	}
}
