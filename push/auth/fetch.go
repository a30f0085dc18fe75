package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// JWKS says how a key set is fetched.
type JWKS struct {
	// Refresh is how often it is. Zero means an hour.
	Refresh time.Duration
	// MinInterval is the least time between two fetches, however many tokens have a kid that is not known. Zero means
	// 10 s.
	MinInterval time.Duration
	// Timeout bounds one. Zero means 5 s.
	Timeout time.Duration
	// MaxBytes bounds the answer. Zero means 1 MiB.
	MaxBytes int64
	// MaxWaiting bounds the clients that wait for a fetch since their kid is not known; others are told to try again
	// later. Zero means 64.
	MaxWaiting int
}

func (c JWKS) withDefaults() JWKS {
	for _, d := range []struct {
		value *time.Duration
		zero  time.Duration
	}{{&c.Refresh, time.Hour}, {&c.MinInterval, 10 * time.Second}, {&c.Timeout, 5 * time.Second}} {
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 1 << 20
	}
	if c.MaxWaiting == 0 {
		c.MaxWaiting = 64
	}
	return c
}

func (c JWKS) validate() error {
	if c.Refresh < 0 || c.MinInterval < 0 || c.Timeout < 0 || c.MaxBytes < 0 || c.MaxWaiting < 0 {
		return errors.New("token-jwks-…: none of them may be negative")
	}
	return nil
}

// checkJWKSURL wants what nobody on the way can change.
func checkJWKSURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("it is not a URL")
	case u.Host == "":
		return errors.New("it has no host")
	case u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return errors.New("want https, or http on this host: whoever can change the keys on their way can be any user")
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// remote is a key set that is fetched, by one goroutine. What was fetched last stays until something better comes: a
// server that is gone, or says nonsense, changes nothing for the keys that are known.
type remote struct {
	// Immutable after newRemote.
	url    string
	config JWKS
	client *http.Client
	logger *slog.Logger
	wanted chan struct{} // a kid is not known
	stop   context.CancelFunc
	done   chan struct{}

	// Any goroutine (atomic).
	keys    atomic.Pointer[ring]
	fetches atomic.Int64 // that brought keys
	failed  atomic.Int64
	turned  atomic.Int64 // tokens that were told to try again later
	latest  atomic.Int64 // when keys came last, in Unix seconds; 0 is never

	// Guarded by mu.
	mu      sync.Mutex
	begun   time.Time     // the last fetch
	ended   chan struct{} // closed when the present or next one has ended
	fresh   bool          // the last one brought keys
	waiting int
}

func newRemote(url string, c JWKS, logger *slog.Logger) *remote {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // once an hour
	ctx, stop := context.WithCancel(context.Background())
	r := &remote{
		url: url, config: c.withDefaults(), logger: logger, wanted: make(chan struct{}, 1), stop: stop, done: make(chan struct{}),
		ended: make(chan struct{}),
		client: &http.Client{Transport: transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 {
				return errors.New("more than 3 redirections")
			}
			return checkJWKSURL(r.URL.String())
		}},
	}
	r.keys.Store(&ring{})
	go r.run(ctx)
	return r
}

func (r *remote) close() {
	r.stop()
	<-r.done
}

// run fetches at once, then at each Refresh, and when a kid is wanted, never sooner than MinInterval after the fetch
// before.
func (r *remote) run(ctx context.Context) {
	defer close(r.done)
	for {
		began := time.Now()
		r.fetch(ctx, began)
		pause := time.NewTimer(r.config.MinInterval)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
		due := r.config.Refresh - time.Since(began)
		if !r.isFresh() {
			due = 0 // nobody need ask
		}
		timer := time.NewTimer(max(due, 0))
		select {
		case <-timer.C:
		case <-r.wanted:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// redacted is a URL for the log: without a password, and without a query, which may have a key.
func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	u.RawQuery = ""
	return u.Redacted()
}

func (r *remote) isFresh() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fresh
}

func (r *remote) fetch(ctx context.Context, now time.Time) {
	r.mu.Lock()
	r.begun = now
	select {
	case <-r.wanted: // this one is for them too
	default:
	}
	r.mu.Unlock()
	keys, err := r.get(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		r.logger.Error("token keys not fetched; those that are known stay in use", "url", redacted(r.url), "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.failed.Add(1)
	} else {
		r.keys.Store((*ring)(&keys))
		r.fetches.Add(1)
		r.latest.Store(time.Now().Unix())
	}
	r.fresh = err == nil
	close(r.ended)
	r.ended = make(chan struct{})
}

func (r *remote) get(ctx context.Context) ([]key, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := r.client.Do(request)
	var withURL *url.Error
	if errors.As(err, &withURL) {
		return nil, withURL.Err // what is logged has the URL, redacted
	}
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", response.Status)
	}
	b, err := io.ReadAll(io.LimitReader(response.Body, r.config.MaxBytes+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) > r.config.MaxBytes:
		return nil, fmt.Errorf("the answer has more than %d bytes", r.config.MaxBytes)
	}
	return parseJWKS(b)
}

// await is for a token whose key is not among those that were looked through. It returns when there are others, or a
// fetch that began after the call has ended; last says that it was the latter, so that a key which is not there now does
// not exist. Where no fetch may begin soon, where too many wait, or ctx ends, it is refusedUnavailable.
func (r *remote) await(ctx context.Context, looked *ring) (last bool, err error) {
	r.mu.Lock()
	if r.keys.Load() != looked { // they came while it looked
		r.mu.Unlock()
		return false, nil
	}
	soon := time.Since(r.begun) >= r.config.MinInterval || r.latest.Load() == 0 && r.failed.Load() == 0 // the first is under way
	if !soon || r.waiting >= r.config.MaxWaiting {
		r.mu.Unlock()
		r.turned.Add(1)
		return false, refusedUnavailable
	}
	r.waiting++
	ended := r.ended
	select {
	case r.wanted <- struct{}{}:
	default:
	}
	r.mu.Unlock()
	select {
	case <-ended:
	case <-ctx.Done():
	case <-r.done:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting--
	if !r.fresh || ctx.Err() != nil {
		r.turned.Add(1)
		return false, refusedUnavailable
	}
	return true, nil
}
