package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/push/events/journal"
	"github.com/millpond/millpond/push/webhook/sign"
)

// The headers of a POST, beside sign.Header.
const (
	HeaderBatch   = "X-Millpond-Batch"   // Batch.ID
	HeaderAttempt = "X-Millpond-Attempt" // from 1
)

// Outcome is what became of a POST.
type Outcome int

// The outcomes.
const (
	Acknowledged Outcome = iota // 2xx
	Refused                     // another status
	Rejected                    // 400, 410, 413 or 422: this batch is not what the backend takes
	TimedOut
	Failed // no answer
)

// String returns the word for metrics.
func (o Outcome) String() string {
	return [...]string{"acknowledged", "refused", "rejected", "timeout", "failed"}[o]
}

// source is a journal whose events are sent.
type source struct {
	journal *journal.Journal
	node    string
	dir     string // empty in memory
}

// sender posts the events of this process and of those that are gone, one batch after another, from one goroutine.
type sender struct {
	// Immutable after newSender.
	config  Config
	own     source
	client  *http.Client
	ending  chan struct{} // closed when each batch is tried once more, and then no longer
	cut     context.Context
	cutNow  context.CancelFunc
	running sync.WaitGroup

	// Owned by run.
	adopted  []source // the oldest first
	broken   []string // directories that could not be opened, which is logged
	failures int      // attempts in a row that were not acknowledged
	logged   bool     // that there are some

	// Any goroutine (atomic).
	waiting       atomic.Int64 // len(adopted)
	adoptedEvents atomic.Uint64

	// Guarded by mu.
	mu      sync.Mutex
	figures Stats // the sender's part of them
}

func newSender(c Config, own source) *sender {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 1, 1
	s := &sender{
		config: c, own: own, ending: make(chan struct{}),
		client: &http.Client{
			Transport: transport, Timeout: c.Timeout,
			// An answer that points elsewhere is no acknowledgement, and the events are for nobody else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	s.cut, s.cutNow = context.WithCancel(context.Background())
	return s
}

// run sends until finish. What others have left comes first: it happened before.
func (s *sender) run() {
	defer s.client.CloseIdleConnections()
	s.adopt()
	ticker := time.NewTicker(adoptEvery)
	defer ticker.Stop()
	for {
		delivered := s.sendAll(ticker.C)
		if delivered {
			select {
			case <-s.own.journal.Ready():
				s.pause(s.config.Delay) // for others to come along
			case <-ticker.C:
				s.adopt()
			case <-s.ending:
			}
		}
		if s.isEnding() {
			if delivered { // else a batch would be passed over
				s.sendAll(nil)
			}
			for _, a := range s.adopted {
				s.close(a.journal.Close)
			}
			return
		}
	}
}

func (s *sender) isEnding() bool {
	select {
	case <-s.ending:
		return true
	default:
		return false
	}
}

// finish tries once more to send everything, until ctx ends.
func (s *sender) finish(ctx context.Context) {
	close(s.ending)
	stop := context.AfterFunc(ctx, s.cutNow)
	s.running.Wait()
	stop()
	s.cutNow()
}

// pause waits for d, or until the sender is to end.
func (s *sender) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ending:
	}
}

// sendAll sends what there is, batch by batch. Whenever look says so it looks for what others have left, for its own may never end.
// It reports false if the sender is to end meanwhile.
func (s *sender) sendAll(look <-chan time.Time) bool {
	for {
		from, isOwn := s.own, len(s.adopted) == 0
		if !isOwn {
			from = s.adopted[0]
		}
		records := from.journal.Next(s.config.BatchEvents, s.config.BatchBytes)
		switch {
		case len(records) > 0:
			if !s.send(from, records) {
				return false
			}
		case isOwn:
			return true
		default:
			s.close(from.journal.Remove)
			s.adopted = s.adopted[1:]
			s.waiting.Store(int64(len(s.adopted)))
		}
		if len(s.adopted) > 0 {
			continue // one after another
		}
		select {
		case <-look:
			s.adopt()
		default:
		}
	}
}

func (s *sender) close(f func() error) {
	if err := f(); err != nil {
		s.config.Logger.Warn("events: the journal of a process that is gone", "error", err)
	}
}

// send sends records of a journal as one batch.
func (s *sender) send(from source, records []journal.Record) bool {
	if from.dir != s.own.dir {
		s.adoptedEvents.Store(from.journal.Stats().Records)
	}
	b := newBatch(from, records)
	s.noteOldest(b.oldest)
	if !s.deliver(b) {
		return false
	}
	from.journal.Ack(b.last)
	return true
}

// batch is a POST that may have to be made several times.
type batch struct {
	id     string
	body   []byte
	events int
	last   uint64
	oldest time.Time
}

func newBatch(from source, records []journal.Record) batch {
	first, last := records[0], records[len(records)-1]
	b := batch{
		id: fmt.Sprintf("%s-%d-%d", from.node, first.Seq, last.Seq), events: len(records), last: last.Seq, oldest: time.Unix(0, first.Time),
	}
	lost := last.Seq - min(from.journal.Sent(), last.Seq)
	lost -= min(uint64(len(records)), lost)
	b.body = fmt.Appendf(nil, `{"batch":%q,"node":%q,"lost":%d,"events":[`, b.id, from.node, lost)
	for i, r := range records {
		if i > 0 {
			b.body = append(b.body, ',')
		}
		b.body = appendEvent(b.body, from.node, r.Seq, r.Time, r.Data)
	}
	b.body = append(b.body, "]}"...)
	return b
}

// deliver posts a batch until it is acknowledged, or was rejected so often that it would hold up the others for ever. It reports false if the sender is to end and the backend still refuses.
func (s *sender) deliver(b batch) bool {
	rejections := 0
	for attempt := 1; ; attempt++ {
		ending := s.isEnding()
		outcome, after, err := s.post(b, attempt)
		s.count(outcome)
		if outcome == Acknowledged {
			s.recovered()
			s.acknowledged(b)
			return true
		}
		if outcome == Rejected {
			rejections++
		}
		if most := s.config.MaxRejections; most > 0 && rejections >= most {
			s.config.Logger.Error("events: a batch is given up, for the backend rejects it", "batch", b.id, "events", b.events, "error", err, "attempts", attempt)
			s.gaveUp(b)
			return true
		}
		s.failures++
		wait := max(s.backoff(), min(after, s.config.MaxBackoff))
		if s.failures == failuresLogged || !s.logged && s.failures > failuresLogged {
			s.logged = true
			s.config.Logger.Warn("events: the backend does not take them; they wait", "outcome", outcome.String(), "error", err, "attempts", s.failures)
		}
		if ending {
			return false
		}
		s.pause(wait)
	}
}

// failuresLogged is how many failures in a row are worth a line.
const failuresLogged = 3

func (s *sender) recovered() {
	if s.logged {
		s.config.Logger.Info("events: the backend takes them again", "attempts", s.failures)
	}
	s.failures, s.logged = 0, false
}

// firstBackoff is the time after the first failure; each further one doubles it.
const firstBackoff = 250 * time.Millisecond

// backoff is how long to wait after a failure: a half of it is chance, so that many servers do not come back at the same moment.
func (s *sender) backoff() time.Duration {
	d := min(firstBackoff<<min(s.failures-1, 20), s.config.MaxBackoff)
	return d/2 + rand.N(d/2+1)
}

// maxAnswerBytes is how much of an answer is read, to use the connection again.
const maxAnswerBytes = 64 << 10

// post makes one attempt. after is what the backend wants to be waited for.
func (s *sender) post(b batch, attempt int) (outcome Outcome, after time.Duration, err error) {
	r, err := http.NewRequestWithContext(s.cut, http.MethodPost, s.config.URL, bytes.NewReader(b.body))
	if err != nil {
		return Failed, 0, errors.New("the URL is none")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "millpond/"+s.config.Version)
	r.Header.Set(HeaderBatch, b.id)
	r.Header.Set(HeaderAttempt, strconv.Itoa(attempt))
	if len(s.config.Secrets) > 0 {
		r.Header.Set(sign.Header, signAll(s.config.Secrets, b.body, time.Now()))
	}
	answer, err := s.client.Do(r)
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return TimedOut, 0, withoutURL(err)
		}
		return Failed, 0, withoutURL(err)
	}
	_, _ = io.CopyN(io.Discard, answer.Body, maxAnswerBytes)
	_ = answer.Body.Close()
	if answer.StatusCode/100 == 2 {
		return Acknowledged, 0, nil
	}
	switch outcome = Refused; answer.StatusCode {
	case http.StatusBadRequest, http.StatusGone, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		outcome = Rejected
	}
	seconds, _ := strconv.ParseUint(answer.Header.Get("Retry-After"), 10, 31)
	return outcome, time.Duration(seconds) * time.Second, errors.New(answer.Status)
}

// withoutURL keeps what may be secret in the URL out of the log.
func withoutURL(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// signAll returns a header with a signature by each secret.
func signAll(secrets [][]byte, body []byte, at time.Time) string {
	values := []string{sign.Sign(secrets[0], body, at)}
	for _, secret := range secrets[1:] {
		_, signature, _ := strings.Cut(sign.Sign(secret, body, at), ",")
		values = append(values, signature)
	}
	return strings.Join(values, ",")
}

func (s *sender) count(o Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.figures.Attempts[o]++
}

// gaveUp counts what the backend will never have.
func (s *sender) gaveUp(b batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.figures.Rejected += uint64(b.events)
}

func (s *sender) noteOldest(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.figures.Oldest = t
}

func (s *sender) acknowledged(b batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.figures.Sent += uint64(b.events)
	s.figures.Oldest = time.Time{}
}

func (s *sender) stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.figures
	if st.Adopted = int(s.waiting.Load()); st.Adopted > 0 {
		st.AdoptedEvents = s.adoptedEvents.Load()
	}
	return st
}
