package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	config     Webhooks
	everything bool // clients may do all there is: development
	endpoints  map[string]*webhook.Client
	headers    []string // of opening requests that any of them wants
	emulated   []string // of connect commands
}

func newBackend(c *Config, tracer *tracing.Tracer) (*backend, error) {
	b := &backend{config: c.Webhooks, everything: c.Dev, endpoints: map[string]*webhook.Client{}}
	for _, e := range c.Webhooks.Endpoints {
		e.Logger, e.Tracer = c.Logger, tracer
		client, err := webhook.New(e)
		if err != nil {
			return nil, fmt.Errorf("webhooks: %q: %w", e.Name, err)
		}
		b.endpoints[e.Name] = client
		connection, emulated := client.Headers()
		b.headers, b.emulated = append(b.headers, connection...), append(b.emulated, emulated...)
	}
	slices.Sort(b.headers)
	slices.Sort(b.emulated)
	b.headers, b.emulated = slices.Compact(b.headers), slices.Compact(b.emulated)
	return b, nil
}

// close ends what is under way.
func (b *backend) close(ctx context.Context) error {
	var errs []error
	for _, c := range b.endpoints {
		errs = append(errs, c.Close(ctx))
	}
	return errors.Join(errs...)
}

// keep returns the headers of an opening request that are wanted.
func (b *backend) keep(r *session.Request) (headers []inquiry.Header) {
	for _, name := range b.headers {
		for _, value := range r.Headers(name) {
			headers = append(headers, inquiry.Header{Name: name, Value: value})
		}
	}
	return headers
}

// functions are what all protocols ask.
func (b *backend) functions() (f inquiry.Functions) {
	if c := b.endpoints[b.config.Refresh]; c != nil {
		f.Refresh = func(who inquiry.Caller, _ struct{}, done func(inquiry.Renewal, error)) error {
			return ask(c, webhook.EventRefresh, who, webhook.Question{}, renewal, done)
		}
	}
	if len(b.endpoints) > 0 {
		f.Subscribe = func(who inquiry.Caller, s inquiry.SubscribeQuestion, done func(inquiry.Grant, error)) error {
			q := webhook.Question{Channel: s.Channel, Payload: s.Data}
			return ask(b.endpoints[s.Webhook], webhook.EventSubscribe, who, q, grant, done)
		}
		f.SubRefresh = func(who inquiry.Caller, s inquiry.SubscribeQuestion, done func(inquiry.Renewal, error)) error {
			return ask(b.endpoints[s.Webhook], webhook.EventSubRefresh, who, webhook.Question{Channel: s.Channel}, renewal, done)
		}
		f.Publish = func(who inquiry.Caller, p inquiry.PublishQuestion, done func(inquiry.Publishing, error)) error {
			q := webhook.Question{Channel: p.Channel, Payload: p.Data}
			return ask(b.endpoints[p.Webhook], webhook.EventPublish, who, q, publishing, done)
		}
	}
	return f
}

// centrifuge is what the Centrifuge protocol asks.
func (b *backend) centrifuge() centrifuge.Backend {
	f := centrifuge.Backend{Functions: b.functions()}
	if c := b.endpoints[b.config.Connect]; c != nil {
		f.Connect = func(who inquiry.Caller, r centrifuge.ConnectRequest, done func(centrifuge.Identity, error)) error {
			q := webhook.Question{Name: r.Name, Version: r.Version, Channels: r.Channels, Payload: r.Data}
			return ask(c, webhook.EventConnect, who, q, b.identity, done)
		}
	}
	if b.config.RPC != "" || len(b.config.RPCNamespaces) > 0 {
		f.RPC = b.rpc
	}
	return f
}

// plain is what the plain protocol asks.
func (b *backend) plain() plain.Backend {
	f := plain.Backend{Functions: b.functions()}
	if c := b.endpoints[b.config.Connect]; c != nil {
		f.Connect = func(who inquiry.Caller, r plain.ConnectRequest, done func(*plain.Identity, error)) error {
			q := webhook.Question{Channels: r.Channels, Payload: r.Data}
			return ask(c, webhook.EventConnect, who, q, b.plainIdentity, done)
		}
	}
	return f
}

func (b *backend) rpc(who inquiry.Caller, r inquiry.RPCQuestion, done func([]byte, error)) error {
	name := b.config.RPC
	if namespace, _, ok := strings.Cut(r.Method, hub.NamespaceBoundary); ok {
		name = ""
		for _, n := range b.config.RPCNamespaces {
			if n.Name == namespace {
				name = n.Webhook
			}
		}
	}
	if name == "" {
		return hub.ErrMethodNotFound
	}
	q := webhook.Question{Method: r.Method, Payload: r.Data}
	return ask(b.endpoints[name], webhook.EventRPC, who, q, func(a *webhook.Answer) ([]byte, error) { return a.Data, nil }, done)
}

// ask asks an endpoint when it is its turn, and gives done what convert makes of the answer.
func ask[A any](c *webhook.Client, event webhook.Event, who inquiry.Caller, q webhook.Question, convert func(*webhook.Answer) (A, error), done func(A, error)) error {
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
	for name, c := range b.endpoints {
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
