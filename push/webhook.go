package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millpond/millpond/internal/nearest"
	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge"
	"github.com/millpond/millpond/push/protocol/inquiry"
	"github.com/millpond/millpond/push/protocol/plain"
	"github.com/millpond/millpond/push/tracing"
	"github.com/millpond/millpond/push/webhook"
	"github.com/millpond/millpond/session"
)

// This file joins the protocols with the application's backend.

// Webhooks say what the application's backend is asked, and where. The names in it are those of Endpoints.
type Webhooks struct {
	Endpoints []Webhook
	// Connect is asked who a client is that shows no token, Refresh whether a connection that expires may stay.
	Connect, Refresh string
	// RPC answers the calls of methods without a namespace, RPCNamespaces those of "namespace:method".
	RPC           string
	RPCNamespaces []RPCNamespace
}

// RPCNamespace says who answers the calls of methods whose names begin with Name and a colon.
type RPCNamespace struct {
	Name    string
	Webhook string
}

// validate reports everything that is wrong, by the names that flags and the file have.
func (w *Webhooks) validate(channels ChannelOptions, namespaces []Namespace) error {
	var errs []error
	var names []string
	for _, e := range w.Endpoints {
		if err := e.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("webhooks: %q: %w", e.Name, err))
		}
		if slices.Contains(names, e.Name) {
			errs = append(errs, fmt.Errorf("webhooks: %q: it is there twice", e.Name))
		}
		names = append(names, e.Name)
	}
	check := func(key, name string) {
		switch {
		case name == "" || slices.Contains(names, name):
		case len(names) == 0:
			errs = append(errs, fmt.Errorf("%s: there is no webhook %q, for there are none", key, name))
		default:
			errs = append(errs, fmt.Errorf("%s: there is no webhook %q, did you mean %q?", key, name, nearest.Name(name, names)))
		}
	}
	check("connect-webhook", w.Connect)
	check("refresh-webhook", w.Refresh)
	check("rpc-webhook", w.RPC)
	seen := map[string]bool{}
	for _, n := range w.RPCNamespaces {
		if n.Name == "" || n.Webhook == "" || strings.Contains(n.Name, hub.NamespaceBoundary) || seen[n.Name] {
			errs = append(errs, fmt.Errorf("rpc_namespaces: %q: it needs a name of its own without a colon, and a webhook", n.Name))
		}
		seen[n.Name] = true
		check(fmt.Sprintf("rpc_namespaces: %q: webhook", n.Name), n.Webhook)
	}
	for _, n := range append([]Namespace{{Options: channels}}, namespaces...) {
		where := "channels: "
		if n.Name != "" {
			where = fmt.Sprintf("namespaces: %q: ", n.Name)
		}
		check(where+"subscribe_webhook", n.SubscribeWebhook)
		check(where+"publish_webhook", n.PublishWebhook)
		check(where+"sub_refresh_webhook", n.SubRefreshWebhook)
	}
	return errors.Join(errs...)
}

// backend asks the endpoints.
type backend struct {
	// Immutable after newBackend.
	connect, refresh string // names of endpoints, or empty
	everything       bool   // clients may do all there is: development
	tracer           *tracing.Tracer
	logger           *slog.Logger

	// Any goroutine (atomic).
	now atomic.Pointer[endpoints]

	// Guarded by mu.
	mu      sync.Mutex
	retired []*webhook.Client // that now has not any more, and that may still be at work
}

// endpoints are those that are asked at a time. Immutable.
type endpoints struct {
	config   Webhooks
	clients  map[string]*webhook.Client
	headers  []string // of opening requests that any of them wants
	emulated []string // of connect commands
}

func newBackend(c *Config, tracer *tracing.Tracer) (*backend, error) {
	b := &backend{connect: c.Webhooks.Connect, refresh: c.Webhooks.Refresh, everything: c.Dev, tracer: tracer, logger: c.Logger}
	b.now.Store(&endpoints{})
	next, err := b.prepare(c.Webhooks)
	if err != nil {
		return nil, err
	}
	b.use(next)
	return b, nil
}

// prepare makes what config says ready for use. Endpoints that are as they were stay the same, with their figures.
func (b *backend) prepare(config Webhooks) (*endpoints, error) {
	before, next := b.now.Load(), &endpoints{config: config, clients: map[string]*webhook.Client{}}
	for i, e := range config.Endpoints {
		client := before.clients[e.Name]
		if client == nil || !reflect.DeepEqual(before.endpoint(e.Name), &config.Endpoints[i]) {
			e.Logger, e.Tracer = b.logger, b.tracer
			var err error
			if client, err = webhook.New(e); err != nil {
				return nil, fmt.Errorf("webhooks: %q: %w", e.Name, err)
			}
		}
		next.clients[e.Name] = client
		connection, emulated := client.Headers()
		next.headers, next.emulated = append(next.headers, connection...), append(next.emulated, emulated...)
	}
	slices.Sort(next.headers)
	slices.Sort(next.emulated)
	next.headers, next.emulated = slices.Compact(next.headers), slices.Compact(next.emulated)
	return next, nil
}

// endpoint returns the configuration of one that there is.
func (e *endpoints) endpoint(name string) *Webhook {
	return &e.config.Endpoints[slices.IndexFunc(e.config.Endpoints, func(w Webhook) bool { return w.Name == name })]
}

// use asks next from now on. Questions that were asked of others get their answers.
func (b *backend) use(next *endpoints) {
	before := b.now.Swap(next)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retired = slices.DeleteFunc(b.retired, (*webhook.Client).Idle)
	for name, c := range before.clients {
		if next.clients[name] != c {
			b.retired = append(b.retired, c)
		}
	}
}

// client returns an endpoint, or nil.
func (b *backend) client(name string) *webhook.Client { return b.now.Load().clients[name] }

// emulated returns the headers of connect commands that are wanted.
func (b *backend) emulated() []string { return b.now.Load().emulated }

// close ends what is under way.
func (b *backend) close(ctx context.Context) error {
	b.mu.Lock()
	list := slices.AppendSeq(slices.Clone(b.retired), maps.Values(b.now.Load().clients))
	b.mu.Unlock()
	var errs []error
	for _, c := range list {
		errs = append(errs, c.Close(ctx))
	}
	return errors.Join(errs...)
}

// keep returns the headers of an opening request that are wanted.
func (b *backend) keep(r *session.Request) (headers []inquiry.Header) {
	for _, name := range b.now.Load().headers {
		for _, value := range r.Headers(name) {
			headers = append(headers, inquiry.Header{Name: name, Value: value})
		}
	}
	return headers
}

// functions are what all protocols ask.
func (b *backend) functions() (f inquiry.Functions) {
	if b.refresh != "" {
		f.Refresh = func(who inquiry.Caller, _ struct{}, done func(inquiry.Renewal, error)) error {
			return ask(b.client(b.refresh), webhook.EventRefresh, who, webhook.Question{}, renewal, done)
		}
	}
	f.Subscribe = func(who inquiry.Caller, s inquiry.SubscribeQuestion, done func(inquiry.Grant, error)) error {
		q := webhook.Question{Channel: s.Channel, Payload: s.Data}
		return ask(b.client(s.Webhook), webhook.EventSubscribe, who, q, grant, done)
	}
	f.SubRefresh = func(who inquiry.Caller, s inquiry.SubscribeQuestion, done func(inquiry.Renewal, error)) error {
		return ask(b.client(s.Webhook), webhook.EventSubRefresh, who, webhook.Question{Channel: s.Channel}, renewal, done)
	}
	f.Publish = func(who inquiry.Caller, p inquiry.PublishQuestion, done func(inquiry.Publishing, error)) error {
		q := webhook.Question{Channel: p.Channel, Payload: p.Data}
		return ask(b.client(p.Webhook), webhook.EventPublish, who, q, publishing, done)
	}
	return f
}

// centrifuge is what the Centrifuge protocol asks.
func (b *backend) centrifuge() centrifuge.Backend {
	f := centrifuge.Backend{Functions: b.functions(), RPC: b.rpc}
	if b.connect != "" {
		f.Connect = func(who inquiry.Caller, r centrifuge.ConnectRequest, done func(centrifuge.Identity, error)) error {
			q := webhook.Question{Name: r.Name, Version: r.Version, Channels: r.Channels, Payload: r.Data}
			return ask(b.client(b.connect), webhook.EventConnect, who, q, b.identity, done)
		}
	}
	return f
}

// plain is what the plain protocol asks.
func (b *backend) plain() plain.Backend {
	f := plain.Backend{Functions: b.functions()}
	if b.connect != "" {
		f.Connect = func(who inquiry.Caller, r plain.ConnectRequest, done func(*plain.Identity, error)) error {
			q := webhook.Question{Channels: r.Channels, Payload: r.Data}
			return ask(b.client(b.connect), webhook.EventConnect, who, q, b.plainIdentity, done)
		}
	}
	return f
}

func (b *backend) rpc(who inquiry.Caller, r inquiry.RPCQuestion, done func([]byte, error)) error {
	now := b.now.Load()
	name := now.config.RPC
	if name == "" && len(now.config.RPCNamespaces) == 0 {
		return hub.ErrNotAvailable
	}
	if namespace, _, ok := strings.Cut(r.Method, hub.NamespaceBoundary); ok {
		name = ""
		for _, n := range now.config.RPCNamespaces {
			if n.Name == namespace {
				name = n.Webhook
			}
		}
	}
	if name == "" {
		return hub.ErrMethodNotFound
	}
	q := webhook.Question{Method: r.Method, Payload: r.Data}
	return ask(now.clients[name], webhook.EventRPC, who, q, func(a *webhook.Answer) ([]byte, error) { return a.Data, nil }, done)
}

// ask asks an endpoint when it is its turn, and gives done what convert makes of the answer. c is nil for one that has just gone, with the
// options that named it.
func ask[A any](c *webhook.Client, event webhook.Event, who inquiry.Caller, q webhook.Question, convert func(*webhook.Answer) (A, error), done func(A, error)) error {
	if c == nil {
		return hub.ErrNotAvailable
	}
	q.Client, q.User, q.Transport, q.Protocol, q.Meta = who.Client, who.User, "websocket", "json", who.Meta
	if who.Protobuf {
		q.Protocol = "protobuf"
	}
	var connection, emulated []webhook.Header
	if h := who.Headers; h != nil {
		connection, emulated = webhookHeaders(h.Connection), webhookHeaders(h.Emulated)
	}
	ok := c.Go(func(ctx context.Context, err error) {
		var result A
		var answer *webhook.Answer
		if err == nil {
			answer, err = c.Ask(ctx, event, q, connection, emulated)
		}
		if err == nil && !who.Protobuf && event != webhook.EventPublish && len(answer.Data) > 0 && !json.Valid(answer.Data) {
			err = hub.ErrInternal // a client of JSON cannot be sent that
		}
		if err == nil {
			result, err = convert(answer)
		}
		done(result, refusal(err))
	})
	if !ok {
		return hub.ErrTooManyRequests
	}
	return nil
}

func webhookHeaders(list []inquiry.Header) []webhook.Header {
	out := make([]webhook.Header, 0, len(list))
	for _, h := range list {
		out = append(out, webhook.Header(h))
	}
	return out
}

// refusal is what a client is told of an error of an endpoint, which has logged it where that matters.
func refusal(err error) error {
	var own *webhook.Refusal
	var end *webhook.Disconnect
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return &hub.Error{Code: own.Code, Message: own.Message, Temporary: own.Temporary}
	case errors.As(err, &end):
		return &inquiry.Disconnect{Code: end.Code, Reason: end.Reason}
	case errors.Is(err, webhook.ErrOverloaded):
		return hub.ErrTooManyRequests
	case errors.Is(err, webhook.ErrPayload):
		return hub.ErrBadRequest
	}
	return hub.ErrInternal
}

// when is the time of an expire_at; 0 is never.
func when(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

func (b *backend) identity(a *webhook.Answer) (centrifuge.Identity, error) {
	id := centrifuge.Identity{User: *a.User, Info: a.Info, Data: a.Data, Meta: a.Meta, Caps: a.Capabilities, Expires: when(a.ExpireAt), Everything: b.everything}
	for _, name := range slices.Sorted(maps.Keys(a.Subs)) {
		s := a.Subs[name]
		id.Subs = append(id.Subs, centrifuge.ServerSubscription{
			Channel: name, Info: s.Info, Data: s.Data, Expires: when(s.ExpireAt), Override: s.Override, RecoverLatest: s.CacheRecover,
		})
	}
	for _, name := range a.Channels {
		id.Subs = append(id.Subs, centrifuge.ServerSubscription{Channel: name})
	}
	return id, nil
}

// plainIdentity is who a client of the plain protocol is. It subscribes by itself to the channels that it is given.
func (b *backend) plainIdentity(a *webhook.Answer) (*plain.Identity, error) {
	return &plain.Identity{
		User: *a.User, Info: a.Info, Data: a.Data, Meta: a.Meta, Caps: a.Capabilities, Expires: when(a.ExpireAt), Everything: b.everything,
		Channels: append(slices.Sorted(maps.Keys(a.Subs)), a.Channels...),
	}, nil
}

func grant(a *webhook.Answer) (inquiry.Grant, error) {
	return inquiry.Grant{Info: a.Info, Data: a.Data, Expires: when(a.ExpireAt), Override: a.Override, Rights: a.Rights}, nil
}

func renewal(a *webhook.Answer) (inquiry.Renewal, error) {
	return inquiry.Renewal{Expired: a.Expired, Expires: when(a.ExpireAt), Info: a.Info, Caps: a.Capabilities}, nil
}

func publishing(a *webhook.Answer) (inquiry.Publishing, error) {
	return inquiry.Publishing{Data: a.Data, Options: hub.PublishOptions{
		Trace: a.Trace,
		Tags:  a.Tags, SkipHistory: a.SkipHistory, IdempotencyKey: a.IdempotencyKey, Delta: a.Delta, Version: a.PubVersion, VersionEpoch: a.VersionEpoch,
	}}, nil
}

var (
	descWebhooks        = desc("webhook_requests_total", "Questions to the application's backend, by how they ended.", "webhook", "outcome")
	descWebhookRunning  = desc("webhook_running", "Questions that are under way.", "webhook")
	descWebhookWaiting  = desc("webhook_waiting", "Questions that wait for their turn.", "webhook")
	descWebhookRetries  = desc("webhook_retries_total", "Requests sent again, for nothing of the first was sent.", "webhook")
	descWebhookBreaker  = desc("webhook_breaker", "1 for the present state of the circuit breaker.", "webhook", "state")
	descWebhookDuration = desc("webhook_duration_seconds", "How long questions took.", "webhook")
)

func (b *backend) collect(out chan<- prometheus.Metric, gauge emitInt, counter emitCount) {
	for name, c := range b.now.Load().clients {
		s := c.Stats()
		for outcome, n := range s.Outcomes {
			counter(descWebhooks, int64(n), name, string(outcome))
		}
		gauge(descWebhookRunning, s.Running, name)
		gauge(descWebhookWaiting, s.Waiting, name)
		counter(descWebhookRetries, int64(s.Retries), name)
		gauge(descWebhookBreaker, 1, name, s.Breaker)
		collectHistogram(out, descWebhookDuration, s.Durations, name)
	}
}
