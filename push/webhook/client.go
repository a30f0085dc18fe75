package webhook

import (
	"bytes"
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/millpond/millpond/push/webhook/sign"
)

// Client asks one endpoint. Its methods may be called by any goroutine.
type Client struct {
	// Immutable after New.
	config    Config
	http      *http.Client
	breaker   *gobreaker.TwoStepCircuitBreaker[struct{}] // nil is none
	forwarded []string                                   // Config.HTTPHeaders in canonical form
	emulated  []string                                   // Config.EmulatedHeaders likewise
	static    map[string]string                          // Config.StaticHeaders likewise
	ctx       context.Context                            //nolint:containedctx // the server's, as it were: ends with Close
	stop      context.CancelFunc

	figures figures

	// Guarded by mu.
	mu      sync.Mutex
	running int
	waiting list.List // of waiter
	closed  bool
	idle    chan struct{} // closed when closed and nothing runs
}

// waiter is a task that waits for its turn.
type waiter struct {
	task  func(ctx context.Context, err error)
	since time.Time
}

// New returns a client of an endpoint. Close ends it.
func New(config Config) (*Client, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	c := &Client{config: config.withDefaults(), static: map[string]string{}, idle: make(chan struct{})}
	c.forwarded, _ = checkHeaders("", config.HTTPHeaders)
	c.emulated, _ = checkHeaders("", config.EmulatedHeaders)
	for name, value := range config.StaticHeaders {
		c.static[http.CanonicalHeaderKey(name)] = value
	}
	tlsConfig, err := c.config.tls()
	if err != nil {
		return nil, err
	}
	most := c.config.MaxConcurrency
	c.http = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true,
			DialContext:  (&net.Dialer{Timeout: c.config.Timeout}).DialContext,
			MaxIdleConns: most, MaxIdleConnsPerHost: most, MaxConnsPerHost: most, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // an answer's bound is that of what comes, not of what it could become
		},
		// What was meant for one place is not sent to another.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if n := c.config.BreakerFailures; n > 0 {
		c.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Name: config.Name, MaxRequests: 1, Timeout: c.config.BreakerTimeout,
			ReadyToTrip:   func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= uint32(n) },
			IsExcluded:    func(err error) bool { return errors.Is(err, ErrClosed) },
			OnStateChange: c.breakerChanged,
		})
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c, nil
}

// Headers returns the names, in canonical form, of the headers that are to be kept of opening requests, and whether the
// connect command's may be needed.
func (c *Client) Headers() (connection, emulated []string) { return c.forwarded, c.emulated }

// Go runs a task, which asks, on a goroutine of its own, at once or when it is its turn; never on the caller's. Its err
// is nil, or why it must not ask: it waited too long, or the server shuts down. Go reports false at once if too many
// wait.
func (c *Client) Go(task func(ctx context.Context, err error)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return false
	case c.running < c.config.MaxConcurrency:
		c.running++
		go c.work(waiter{task: task, since: time.Now()})
	case c.waiting.Len() < c.config.MaxWaiting:
		c.waiting.PushBack(waiter{task, time.Now()})
	default:
		c.figures.count(OutcomeOverloaded)
		c.log(OutcomeOverloaded, "", ErrOverloaded)
		return false
	}
	return true
}

// work runs w and then what waits.
func (c *Client) work(w waiter) {
	for ok := true; ok; w, ok = c.next() {
		err := c.ctx.Err()
		switch {
		case err != nil:
			err = ErrClosed
			c.figures.count(OutcomeClosed)
		case time.Since(w.since) > c.config.Timeout:
			err = ErrOverloaded
			c.figures.count(OutcomeOverloaded)
			c.log(OutcomeOverloaded, "", err)
		}
		w.task(c.ctx, err)
	}
}

// next returns what has waited longest, or takes the worker off duty.
func (c *Client) next() (waiter, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if front := c.waiting.Front(); front != nil {
		return c.waiting.Remove(front).(waiter), true
	}
	c.running--
	if c.closed && c.running == 0 {
		close(c.idle)
	}
	return waiter{}, false
}

// Idle reports whether nothing is under way and nothing waits. If so, it also lets go of the connections.
func (c *Client) Idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running > 0 || c.waiting.Len() > 0 {
		return false
	}
	c.http.CloseIdleConnections()
	return true
}

// Close ends what is under way and returns when it has ended, or when ctx does. Further calls do nothing.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		if c.running == 0 {
			close(c.idle)
		}
	}
	c.mu.Unlock()
	c.stop()
	defer c.http.CloseIdleConnections()
	select {
	case <-c.idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("webhook %s: questions are still under way: %w", c.config.Name, ctx.Err())
	}
}

// Ask asks, and waits for the answer as long as Config.Timeout. The error is a *Refusal or *Disconnect if the backend
// wants that, else it wraps one of this package's, or another that the client has nothing to learn from. connection and
// emulated are all of the client's headers that may be needed.
func (c *Client) Ask(ctx context.Context, event Event, q Question, connection, emulated []Header) (*Answer, error) {
	begin := time.Now()
	c.figures.running.Add(1)
	ctx, span := c.config.Tracer.Client(ctx, "webhook "+string(event))
	answer, err := c.ask(ctx, event, q, connection, emulated)
	c.figures.running.Add(-1)
	outcome := outcomeOf(err)
	span.Set("millpond.webhook", c.config.Name)
	span.Set("millpond.webhook.outcome", string(outcome))
	span.End(err)
	if answer != nil {
		answer.Trace = span.Trace()
	}
	c.figures.count(outcome)
	c.figures.took.Observe(time.Since(begin))
	switch outcome {
	case OutcomeOK, OutcomeError, OutcomeDisconnect, OutcomeClosed, OutcomePayload:
	default:
		c.log(outcome, event, err)
	}
	return answer, err
}

func (c *Client) ask(ctx context.Context, event Event, q Question, connection, emulated []Header) (*Answer, error) {
	body, err := c.body(q)
	if err != nil {
		return nil, err
	}
	done := func(error) {}
	if c.breaker != nil {
		if done, err = c.breaker.Allow(); err != nil {
			return nil, ErrBreaker
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.config.Timeout, ErrTimeout)
	defer cancel()
	response, err := c.post(ctx, event, body, connection, emulated)
	done(failure(response, err))
	if err != nil {
		return nil, err
	}
	if response.status != http.StatusOK {
		return nil, c.transform(response.status)
	}
	return decode(event, response.body)
}

// body encodes a question.
func (c *Client) body(q Question) ([]byte, error) {
	q.Encoding = "json"
	switch {
	case c.config.BinaryEncoding:
		q.Encoding, q.B64Data = "binary", q.Payload
	case len(q.Payload) > 0 && !json.Valid(q.Payload):
		return nil, ErrPayload
	default:
		q.Data = q.Payload
	}
	if !c.config.IncludeConnectionMeta {
		q.Meta = nil
	}
	b, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("marshal a question: %w", err)
	}
	return b, nil
}

// response is what came back.
type response struct {
	status int
	body   []byte
}

// failure returns what the breaker is to know: the error of a backend that is not there. One that answers, whatever it
// says, is.
func failure(r *response, err error) error {
	switch {
	case errors.Is(err, errUnreadable):
		return nil
	case err != nil:
		return err
	case slices.Contains([]int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, r.status):
		return errStatus
	}
	return nil
}

// retryPause is about how long it takes until a question is repeated.
const retryPause = 50 * time.Millisecond

// post sends a body until something of it was sent, and returns what comes back.
func (c *Client) post(ctx context.Context, event Event, body []byte, connection, emulated []Header) (*response, error) {
	for attempt := 0; ; attempt++ {
		var sent atomic.Bool
		r, err := c.postOnce(ctx, body, connection, emulated, &sent)
		again := err != nil && event.safe() && attempt < c.config.Retries && !sent.Load() &&
			(errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET))
		if !again {
			return r, err
		}
		c.figures.retries.Add(1)
		pause := time.NewTimer(retryPause/2 + rand.N(retryPause))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, err
		}
	}
}

// postOnce is one request. sent is set as soon as a byte of it may have left.
func (c *Client) postOnce(ctx context.Context, body []byte, connection, emulated []Header, sent *atomic.Bool) (*response, error) {
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaderField: func(string, []string) { sent.Store(true) }})
	request, err := http.NewRequestWithContext(traced, http.MethodPost, c.config.Endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("a request: %w", err)
	}
	c.setHeaders(request.Header, connection, emulated)
	c.config.Tracer.Inject(ctx, request.Header)
	if len(c.config.Secret) > 0 {
		request.Header.Set(sign.Header, sign.Sign(c.config.Secret, body, time.Now()))
	}
	r, err := c.http.Do(request)
	if err != nil {
		return nil, connectionError(ctx, err)
	}
	defer func() { _ = r.Body.Close() }()
	most := int64(c.config.MaxResponseBytes)
	b, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	switch {
	case err != nil:
		return nil, connectionError(ctx, err)
	case int64(len(b)) > most && r.StatusCode == http.StatusOK:
		return nil, unreadable("it has more than %d bytes", most)
	}
	return &response{r.StatusCode, b}, nil
}

// connectionError returns err without the URL, which may have secrets, as one of this package's.
func connectionError(ctx context.Context, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var network net.Error
	switch {
	case errors.Is(context.Cause(ctx), context.Canceled):
		return ErrClosed
	case ctx.Err() != nil, errors.As(err, &network) && network.Timeout():
		return ErrTimeout
	}
	return fmt.Errorf("%w: %w", errConnection, err)
}

// transform returns the error that a status is.
func (c *Client) transform(status int) error {
	i := slices.IndexFunc(c.config.Transforms, func(t Transform) bool { return t.Status == status })
	switch {
	case i < 0:
		return fmt.Errorf("%w: %d", errStatus, status)
	case c.config.Transforms[i].ToError != nil:
		return c.config.Transforms[i].ToError
	}
	return c.config.Transforms[i].ToDisconnect
}
