// Package tracing follows what is done from a request to the API, or a webhook, to the last subscriber, as spans of OpenTelemetry.
// It is the only one that knows OpenTelemetry. All of it may be used with a nil *Tracer, which costs nothing.
package tracing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Config says where spans go. The zero value is no tracing.
type Config struct {
	// Endpoint is the URL of an OTLP receiver by HTTP; without a path, /v1/traces. Empty is none, unless Environment says otherwise.
	Endpoint string
	// Sample is of how many traces that begin here the spans are kept, from 0 to 1; those that a caller has begun are kept if the caller does. Nil
	// means what OTEL_TRACES_SAMPLER says, or all.
	Sample *float64
	// Environment lets OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT turn tracing on without an Endpoint. Other variables
	// of OpenTelemetry are heeded in any case.
	Environment bool
	// Version is the server's.
	Version string
	// Logger is told when spans do not get there, and when that is over. Nil means slog.Default().
	Logger *slog.Logger
}

// Validate reports everything that is wrong, by the names of the flags.
func (c Config) Validate() error {
	var errs []error
	if c.Endpoint != "" {
		if u, err := url.Parse(c.Endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			errs = append(errs, errors.New("trace-endpoint: it is no http or https URL"))
		}
	}
	if s := c.Sample; s != nil && !(*s >= 0 && *s <= 1) {
		errs = append(errs, fmt.Errorf("trace-sample: %v is not between 0 and 1", *s))
	}
	return errors.Join(errs...)
}

// enabled reports whether there is anything to do.
func (c *Config) enabled() bool {
	if c.Endpoint != "" {
		return true
	}
	return c.Environment && cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")) != "" &&
		os.Getenv("OTEL_SDK_DISABLED") != "true" && os.Getenv("OTEL_TRACES_EXPORTER") != "none"
}

// Tracer makes spans and sends them, from a goroutine of its own. What a receiver that is away or slow does not take is given up.
type Tracer struct {
	// Immutable after New.
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	sender   *sender
}

// propagator reads and writes the header traceparent.
var propagator = propagation.TraceContext{}

// New returns a tracer; nil without an error if there is nothing to do.
func New(c Config) (*Tracer, error) {
	if err := c.Validate(); err != nil || !c.enabled() {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	ctx := context.Background()
	// Spans that wait for another attempt would be in the way of those that come.
	options := []otlptracehttp.Option{otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
		Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: 15 * time.Second,
	})}
	if c.Endpoint != "" {
		u, _ := url.Parse(c.Endpoint)
		if u.Path == "" || u.Path == "/" {
			u.Path = "/v1/traces"
		}
		options = append(options, otlptracehttp.WithEndpointURL(u.String()))
	}
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("trace-endpoint: %w", err)
	}
	from, err := resource.New(ctx, resource.WithHost(), resource.WithAttributes(
		attribute.String("service.name", "millpond"), attribute.String("service.version", c.Version)), resource.WithFromEnv())
	if err != nil {
		c.Logger.Warn("tracing: what spans are from is told in part", "error", err)
	}
	t := &Tracer{sender: &sender{SpanExporter: exporter, logger: c.Logger}}
	t.sender.cut, t.sender.cutNow = context.WithCancel(ctx)
	provided := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(from), sdktrace.WithSpanProcessor(counted{sdktrace.NewBatchSpanProcessor(t.sender), t.sender}),
	}
	if c.Sample != nil {
		provided = append(provided, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(*c.Sample))))
	}
	t.provider = sdktrace.NewTracerProvider(provided...)
	t.tracer = t.provider.Tracer("github.com/millpond/millpond")
	return t, nil
}

// closeTimeout bounds the last attempt to send what waits: a server that ends does not wait for a receiver that is away.
const closeTimeout = 3 * time.Second

// Close sends what waits, until ctx ends or three seconds are over.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	defer t.sender.cutNow() // what the processor still tries ends at once
	if err := t.provider.Shutdown(ctx); err != nil {
		t.sender.logger.Warn("tracing: the last spans are lost", "error", err)
	}
	return nil
}

// Stats are a tracer's figures since New.
type Stats struct {
	Ended    int64 // spans that are to be sent
	Exported int64 // that the receiver has
	Failed   int64 // that it did not take; what is missing in the sum waits, or was given up because too many do
}

// Stats returns the present figures.
func (t *Tracer) Stats() Stats {
	if t == nil {
		return Stats{}
	}
	return Stats{t.sender.ended.Load(), t.sender.exported.Load(), t.sender.failed.Load()}
}

// Span is something that takes time. Its methods do nothing if it is nil.
type Span struct{ span trace.Span }

// Server begins a span for a request, as a part of what its caller does. Without a tracer it returns r itself.
func (t *Tracer) Server(r *http.Request, name string) (*http.Request, *Span) {
	if t == nil {
		return r, nil
	}
	ctx := propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer))
	return r.WithContext(ctx), &Span{span}
}

// Client begins a span for a request that is sent to somebody, who is told by the header with Inject.
func (t *Tracer) Client(ctx context.Context, name string) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient))
	return ctx, &Span{span}
}

// Inject sets the header by which a receiver goes on with the trace that ctx is of.
func (t *Tracer) Inject(ctx context.Context, h http.Header) {
	if t != nil {
		propagator.Inject(ctx, propagation.HeaderCarrier(h))
	}
}

// Trace is where something belongs: what Follow takes instead of a context.
type Trace struct{ at trace.SpanContext }

// Trace returns the span as one that others belong to, nil if it is not kept.
func (s *Span) Trace() *Trace {
	if s == nil || !s.span.SpanContext().IsSampled() {
		return nil
	}
	return &Trace{s.span.SpanContext()}
}

// Follow begins the spans of a publication that belongs to the trace of ctx, or to t: published is to be called when the broker has it or has
// refused it, delivered when the last subscriber of this node was handed it; both may be called by any goroutine. carrier is what Arrived knows it
// by, on this node or others. They are nil, and empty, if nobody follows the trace, which costs a look at ctx.
func (t *Tracer) Follow(ctx context.Context, parent any, channel string) (published func(error), delivered func(), carrier string) {
	if p, ok := parent.(*Trace); ok && p != nil {
		ctx = trace.ContextWithSpanContext(ctx, p.at)
	}
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return nil, nil, ""
	}
	begun := time.Now()
	where := destination(channel)
	ctx, span := t.tracer.Start(ctx, "publish", trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(begun), where)
	published = (&Span{span}).End
	delivered = func() {
		// Made only now: for a publication that is not handed over, an idempotent one for instance, this does not come.
		_, span := t.tracer.Start(ctx, "fan-out", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(begun), where)
		span.End()
	}
	return published, delivered, carry(ctx)
}

// maxText bounds a string of a span, in bytes.
const maxText = 512

// clean makes a string one that OTLP takes, UTF-8 of a bounded length: a name that a client has made up would cost all spans that are sent together.
func clean(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxText)], "\uFFFD")
}

func destination(channel string) trace.SpanStartEventOption {
	return trace.WithAttributes(attribute.String("messaging.system", "millpond"), attribute.String("messaging.destination.name", clean(channel)))
}

// traceparent is the header's name, of which the value is a carrier.
const traceparent = "traceparent"

func carry(ctx context.Context) string {
	c := propagation.MapCarrier{}
	propagator.Inject(ctx, c)
	return c[traceparent]
}

// Arrived is called when a publication that some node follows has come to this one by a broker of several nodes: delivered is to be called when the last
// subscriber of this node was handed it. It is nil if the carrier is none.
func (t *Tracer) Arrived(carrier, channel string) (delivered func()) {
	ctx := propagator.Extract(context.Background(), propagation.MapCarrier{traceparent: carrier})
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return nil
	}
	begun := time.Now()
	return func() {
		_, span := t.tracer.Start(ctx, "fan-out", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(begun), destination(channel))
		span.End()
	}
}

// Name gives the span another name, when more is known.
func (s *Span) Name(name string) {
	if s != nil {
		s.span.SetName(clean(name))
	}
}

// Set notes something about the span. There may be nothing secret in it.
func (s *Span) Set(key, value string) {
	if s != nil {
		s.span.SetAttributes(attribute.String(key, clean(value)))
	}
}

// End ends the span, with an error if that is not nil.
func (s *Span) End(err error) {
	if s == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, clean(err.Error()))
	}
	s.span.End()
}

// counted counts the spans that a processor gets.
type counted struct {
	sdktrace.SpanProcessor
	sender *sender
}

// OnEnd implements sdktrace.SpanProcessor: of spans that are kept alone, for others do not record.
func (c counted) OnEnd(s sdktrace.ReadOnlySpan) {
	c.sender.ended.Add(1)
	c.SpanProcessor.OnEnd(s)
}

// sender is an exporter that counts, and says in the log what OpenTelemetry would say on stderr.
type sender struct {
	sdktrace.SpanExporter
	logger *slog.Logger
	cut    context.Context //nolint:containedctx // the tracer's: ends with Close
	cutNow context.CancelFunc

	// Any goroutine (atomic).
	ended    atomic.Int64
	exported atomic.Int64
	failed   atomic.Int64
	sick     atomic.Bool // the last attempt failed, which is logged
}

// ExportSpans implements sdktrace.SpanExporter.
func (s *sender) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.cut, cancel)()
	err := s.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		s.failed.Add(int64(len(spans)))
		if !s.sick.Swap(true) && s.cut.Err() == nil {
			s.logger.Warn("tracing: spans are lost", "error", err)
		}
		return nil // it is told
	}
	s.exported.Add(int64(len(spans)))
	if s.sick.Swap(false) {
		s.logger.Info("tracing: spans get there again", "lost", s.failed.Load())
	}
	return nil
}
