package push

import (
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/millpond/millpond/internal/histogram"
	"github.com/millpond/millpond/push/api"
	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/logs"
	"github.com/millpond/millpond/session"
)

// registry has the process's own metrics, Go's and ours.
func (s *Server) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		processCollector{},
		&collector{server: s},
	)
	return r
}

// collector turns the figures that the rooms keep into metrics when somebody asks:
// nothing is counted twice, and no message pays for it.
type collector struct {
	server *Server
}

var _ prometheus.Collector = (*collector)(nil)

// metric is one as docs/metrics.md has it.
type metric struct {
	name, help string
	labels     []string
}

// catalog lists all but Go's own, those too of which there is nothing to tell yet.
var catalog []metric

func desc(name, help string, labels ...string) *prometheus.Desc {
	catalog = append(catalog, metric{"millpond_" + name, help, labels})
	return prometheus.NewDesc("millpond_"+name, help, labels, nil)
}

var (
	descBuild         = desc("build_info", "1, with the version.", "version")
	descConnections   = desc("connections", "Open connections, handshakes included.")
	descDraining      = desc("draining", "1 while the server drains.")
	descHTTPConns     = desc("http_connections", "Open plain HTTP connections on the public listeners.")
	descAccepted      = desc("accepted_total", "Connections accepted.")
	descAcceptPauses  = desc("accept_pauses_total", "Pauses in accepting, for lack of descriptors or memory, for --accept-rate, or because those who are in come first.", "reason")
	descLoopLag       = desc("loop_lag_seconds", "How late the event loops are, the latest of them: asked once a second, and while connections come in.")
	descTLSQueued     = desc("tls_handshakes_waiting", "TLS handshakes that wait to compute.")
	descOpened        = desc("handshakes_total", "Opening handshakes answered with 101.")
	descHandshakes    = desc("handshakes_refused_total", "Opening handshakes answered with an error.", "reason")
	descRefused       = desc("connections_refused_total", "Connections over a bound.", "bound")
	descHandshaking   = desc("handshakes_pending", "Connections that are not through their opening handshake.")
	descTLSHandshakes = desc("tls_handshakes_total", "TLS handshakes that ended well.", "version", "resumed")
	descTLSFailed     = desc("tls_handshakes_failed_total", "TLS handshakes that did not.", "reason")
	descTLSRunning    = desc("tls_handshakes_running", "TLS handshakes that compute now.")
	descCertificate   = desc("tls_certificate_expiry_timestamp_seconds", "When a certificate in use expires.", "file")
	descCertReloads   = desc("tls_reloads_total", "Times that the certificates were read again.", "outcome")
	descTokens        = desc("tokens_total", "Tokens that were looked at.", "outcome")
	descTokenKeys     = desc("token_keys", "Keys that verify tokens.")
	descTokenReloads  = desc("token_key_reloads_total", "Times that the files of tokens' keys were read again.", "outcome")
	descTokenFetches  = desc("token_key_fetches_total", "Times that key sets were fetched.", "outcome")
	descTokenFetched  = desc("token_keys_fetched_timestamp_seconds", "When the oldest of the key sets was fetched; 0 is never.")
	descTokenTurned   = desc("tokens_turned_away_total", "Tokens with a key that was not known and could not be asked for just then.")
	descRevocations   = desc("token_revocations", "Revocations of tokens that are kept.")
	descClosed        = desc("closed_total", "Connections that ended.", "reason")
	descCloseTimeouts = desc("close_timeouts_total", "Connections cut because the peer did not close in time.")
	descMessages      = desc("messages_total", "WebSocket messages and control frames.", "direction")
	descBytes         = desc("bytes_total", "Bytes on public sockets, handshakes included.", "direction")
	descDeflating     = desc("handshakes_deflate_total", "Opening handshakes that agreed on permessage-deflate.")
	descDeflated      = desc("messages_deflated_total", "Messages that left compressed.")
	descDeflateSaved  = desc("deflate_saved_bytes_total", "Bytes that compressing them saved.")
	descPings         = desc("pings_total", "Heartbeats sent.")
	descReadPauses    = desc("read_pauses_total", "Times that a socket was not read because an inbox or outbox was full.")
	descDropped       = desc("dropped_total", "Messages given up for a full outbox.", "policy")
	descFaults        = desc("protocol_faults_total", "Violations of RFC 6455 by clients.", "kind")
	descPanics        = desc("handler_panics_total", "Handlers that panicked.")
	descPongs         = desc("pongs_total", "Heartbeats answered by clients.")
	descMostConns     = desc("connections_limit", "Connections at most, by --max-connections; 0 is as many as there are file descriptors.")
	descHandlers      = desc("handler_duration_seconds", "How long handlers took for a message, of one turn in 16; webhooks are not waited for.")
	descWorkers       = desc("workers", "Workers that run a handler, or fan-out.", "pool")
	descWorkersMost   = desc("workers_limit", "Workers at most.", "pool")
	descWaiting       = desc("workers_waiting", "Handlers, or fan-outs, that wait for a worker.", "pool")
	descWorkerWait    = desc("worker_wait_seconds", "How long one waits for a worker: asked once a second.", "pool")
	descTasks         = desc("tasks_total", "Turns of handlers, or fan-outs, that ended.", "pool")
	descOutboxes      = desc("outbox_sessions", "Sessions for which something waits that the kernel did not take.")
	descOutboxMsgs    = desc("outbox_messages", "Messages that wait for clients.")
	descOutboxBytes   = desc("outbox_bytes", "Bytes that wait for clients.")
	descOutboxAge     = desc("outbox_oldest_age_seconds", "How long the oldest of them has waited.")
	descFanout        = desc("fanout_duration_seconds", "Time from the broker to the last subscriber's session, of one publication in 16 and of all in channels of more than a thousand subscribers.")
	descPublish       = desc("broker_publish_duration_seconds", "Time that the broker took to accept a publication of this node, of one in 16.")
	descRecoveries    = desc("recoveries_total", "Subscribers that came back and wanted what they missed.", "outcome")
	descRecovered     = desc("recovered_publications_total", "Publications that they were sent.")
	descHistoryChans  = desc("history_channels", "Channels whose position is kept.")
	descHistoryPubs   = desc("history_publications", "Publications in the channels' histories.")
	descHistoryBytes  = desc("history_bytes", "Bytes of the channels' histories.")
	descHistoryMost   = desc("history_limit_bytes", "Bytes of the channels' histories at most.")
	descHistoryGone   = desc("history_evicted_total", "Publications that went before their time, for the bound of bytes.")
	descAPIDuration   = desc("api_request_duration_seconds", "How long requests to the API took, by method; empty for paths that are none, and for pipes. Bulks are not among them.", "method")
	descChannels      = desc("channels", "Channels with subscribers.")
	descSubscriptions = desc("subscriptions", "Subscriptions.")
	descPublications  = desc("publications_total", "Publications handed over by the broker.")
	descDeliveries    = desc("deliveries_total", "Publications handed to subscribers.")
	descHubPanics     = desc("delivery_panics_total", "Deliveries to a subscriber that panicked.")
	descHubWaiting    = desc("publications_waiting", "Publications that wait for fan-out.")
	descClients       = desc("centrifuge_clients", "Clients of the Centrifuge protocol that are connected.")
	descUsers         = desc("centrifuge_users", "Different users among them.")
	descDisconnects   = desc("centrifuge_disconnects_total", "Clients disconnected by the protocol.", "code")
	descUntold        = desc("centrifuge_untold_total", "Deliveries and recoveries for clients of JSON in which something was not JSON.")
	descCommands      = desc("commands_total", "Commands of clients.", "protocol")
	descAPIRequests   = desc("api_requests_total", "Requests to the API.")
	descAPIRefused    = desc("api_requests_refused_total", "Requests to the API answered with a status of 400 or more.")
	descAPIPublished  = desc("api_publications_total", "Publications that the API accepted.")
	descAPIFailed     = desc("api_publications_failed_total", "Publications that the API could not accept.")
	descAPIRunning    = desc("api_requests_running", "Requests to the API under way.")
	descAPIStreams    = desc("api_streams", "Bulks under way.")
	descAPILines      = desc("api_bulk_lines_total", "Lines of bulks.")
	descAPICommands   = desc("api_commands_total", "Commands of the API, those of batches and bulks one by one, by the name of the key and the code of the error, 0 for none.", "key", "method", "code")
	descAPIKeys       = desc("api_key_reloads_total", "Times that the files of the API's keys were read again.", "outcome")
	descTaps          = desc("tap_captures", "Captures of frames that run, those of the playground apart.", "kind")
	descTapConns      = desc("tap_connections", "Connections that captures look on at.")
	descTapStarted    = desc("tap_started_total", "Captures that have begun.")
	descTapRefused    = desc("tap_refused_total", "Captures that were refused.", "reason")
	descTapFrames     = desc("tap_frames_total", "Frames that captures have shown.")
	descTapBytes      = desc("tap_shown_bytes_total", "Bytes of them.")
	descTapDropped    = desc("tap_frames_dropped_total", "Frames that captures have left out, because the reader was too slow or --tap-bytes-per-second was reached.")
	descWatchers      = desc("dashboard_watchers", "Dashboards that are open.")
	descWatchersLeft  = desc("dashboard_refused_total", "Dashboards that were one more than --dashboard-max-watchers.")
	descKeys          = desc("idempotency_keys", "Keys of publications that are known, so that none is made twice.")
	descSpans         = desc("trace_spans_total", "Spans of OpenTelemetry: ended, which are to be sent; exported, which the receiver has; failed, which it did not take. What is missing in the sum of these waits, or was given up.", "outcome")
	descLogRepeats    = desc("log_repeats_total", "Lines of the server's log that were counted, and not written, because they said the same again within --log-repeat-interval.")
	descLogLines      = desc("log_lines_total", "Lines of the audit log and the access log.", "log", "outcome")
	descErrors        = desc("command_errors_total", "Errors sent to clients.", "protocol", "code")
)

// Describe implements prometheus.Collector; the set depends on what happened.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(descBuild, 1, c.server.config.Version)
	draining := 0
	if c.server.draining.Load() {
		draining = 1
	}
	gauge(descDraining, draining)
	st := c.server.engine.Stats()
	seconds := func(d *prometheus.Desc, v time.Duration, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v.Seconds(), labels...)
	}
	seconds(descLoopLag, st.LoopLag)
	gauge(descMostConns, st.MaxConnections)
	c.server.reloads.collect(gauge, counter)
	collectEngine(st, gauge, counter)
	collectHistogram(out, descHandlers, st.Handled)
	collectPool("handlers", st.Pool, seconds, gauge, counter)
	collectPool("fanout", st.Tasks, seconds, gauge, counter)
	boxes := c.server.engine.Outboxes()
	gauge(descOutboxes, boxes.Sessions)
	gauge(descOutboxMsgs, boxes.Messages)
	gauge(descOutboxBytes, boxes.Bytes)
	seconds(descOutboxAge, boxes.Oldest)
	c.collectMemory(st, gauge)
	if c.server.certs != nil {
		c.collectCerts(out, counter)
	}
	c.collectTokens(gauge, counter)
	c.collectHub(out, gauge, counter)
	c.collectAPI(out, gauge, counter)
	c.collectLogs(counter)
	collectTaps(c.server.taps.Stats(), gauge, counter)
	if d := c.server.dashboard; d != nil {
		st := d.Stats()
		gauge(descWatchers, st.Watchers)
		counter(descWatchersLeft, st.Refused)
	}
	c.server.backend.collect(out, gauge, counter)
	c.collectCluster(gauge, counter)
	c.collectQueue(gauge, counter)
	if c.server.events != nil {
		c.collectEvents(out, gauge, counter)
	}
}

func (c *collector) collectTokens(gauge emitInt, counter emitCount) {
	st := c.server.verifier.Stats()
	counter(descTokens, int64(st.Verified), "good")
	for why, n := range st.Refused {
		counter(descTokens, int64(n), why)
	}
	gauge(descTokenKeys, st.Keys)
	counter(descTokenReloads, st.Reloads, "done")
	counter(descTokenReloads, st.Failed, "failed")
	gauge(descRevocations, st.RevokedCount)
	if !st.Fetching {
		return
	}
	counter(descTokenFetches, st.Fetches, "done")
	counter(descTokenFetches, st.FetchFailed, "failed")
	counter(descTokenTurned, st.TurnedAway)
	fetched := 0
	if !st.LatestFetch.IsZero() {
		fetched = int(st.LatestFetch.Unix())
	}
	gauge(descTokenFetched, fetched)
}

func (c *collector) collectCerts(out chan<- prometheus.Metric, counter emitCount) {
	st := c.server.certs.Stats()
	for file, end := range st.NotAfter {
		if !utf8.ValidString(file) { // a path may be any bytes, and a label may not
			file = strconv.QuoteToASCII(file)
		}
		out <- prometheus.MustNewConstMetric(descCertificate, prometheus.GaugeValue, float64(end.Unix()), file)
	}
	counter(descCertReloads, st.Reloads, "done")
	counter(descCertReloads, st.Failed, "failed")
}

func collectTLS(st session.TLSStats, gauge emitInt, counter emitCount) {
	for key, n := range st.Complete {
		counter(descTLSHandshakes, n, key.Version, strconv.FormatBool(key.Resumed))
	}
	for reason, n := range st.Failures {
		counter(descTLSFailed, n, reason)
	}
	gauge(descTLSRunning, st.Running)
	gauge(descTLSQueued, st.Queued)
}

type emitInt func(d *prometheus.Desc, v int, labels ...string)

type emitCount func(d *prometheus.Desc, v int64, labels ...string)

type emitSeconds func(d *prometheus.Desc, v time.Duration, labels ...string)

func collectHistogram(out chan<- prometheus.Metric, d *prometheus.Desc, s histogram.Snapshot, labels ...string) {
	buckets := make(map[float64]uint64, len(s.Counts))
	for i, n := range s.Counts {
		buckets[histogram.Bounds[i].Seconds()] = n
	}
	out <- prometheus.MustNewConstHistogram(d, s.Count, s.Sum.Seconds(), buckets, labels...)
}

func collectPool(name string, st session.PoolStats, seconds emitSeconds, gauge emitInt, counter emitCount) {
	gauge(descWorkers, st.Running, name)
	gauge(descWorkersMost, st.Workers, name)
	gauge(descWaiting, st.Waiting, name)
	seconds(descWorkerWait, st.Wait, name)
	counter(descTasks, st.Done, name)
}

func collectEngine(st session.Stats, gauge emitInt, counter emitCount) {
	gauge(descConnections, st.Connections)
	gauge(descHTTPConns, st.HTTPConns)
	counter(descAccepted, st.Accepted)
	counter(descAcceptPauses, st.AcceptPauses, "resources")
	counter(descAcceptPauses, st.AcceptPaced, "rate")
	counter(descAcceptPauses, st.AcceptLagged, "lag")
	counter(descAcceptPauses, st.AcceptCrowded, "tls_handshakes")
	counter(descOpened, st.Opened)
	counter(descRefused, st.RefusedFull, "max_connections")
	counter(descRefused, st.RefusedCrowd, "max_handshakes")
	counter(descRefused, st.RefusedAddress, "max_connections_per_address")
	counter(descRefused, st.RefusedMemory, "memory_limit")
	gauge(descHandshaking, st.Handshaking)
	collectTLS(st.TLS, gauge, counter)
	counter(descCloseTimeouts, st.CloseTimeouts)
	counter(descMessages, st.MessagesIn, "in")
	counter(descMessages, st.MessagesOut, "out")
	counter(descBytes, st.BytesIn, "in")
	counter(descBytes, st.BytesOut, "out")
	counter(descDeflating, st.Deflating)
	counter(descDeflated, st.DeflatedOut)
	counter(descDeflateSaved, st.DeflateSaved)
	counter(descPings, st.Pings)
	counter(descPongs, st.Pongs)
	counter(descReadPauses, st.ReadPauses)
	counter(descPanics, st.Panics)
	for reason, n := range st.Closed {
		counter(descClosed, n, reason.String())
	}
	for kind, n := range st.Refusals {
		counter(descHandshakes, n, kind)
	}
	for policy, n := range st.Dropped {
		counter(descDropped, n, policy)
	}
	for kind, n := range st.Faults {
		counter(descFaults, n, kind)
	}
}

func (c *collector) collectHub(out chan<- prometheus.Metric, gauge emitInt, counter emitCount) {
	h := c.server.hub.Stats()
	gauge(descChannels, h.Channels)
	gauge(descSubscriptions, h.Subscriptions)
	gauge(descHubWaiting, h.Waiting)
	counter(descPublications, int64(h.Publications))
	counter(descDeliveries, int64(h.Deliveries))
	counter(descHubPanics, int64(h.Panics))
	collectHistogram(out, descFanout, h.Fanout)
	collectHistogram(out, descPublish, h.Published)
	for outcome, n := range h.Recoveries {
		counter(descRecoveries, int64(n), hub.RecoveryOutcome(outcome).String())
	}
	counter(descRecovered, int64(h.Recovered))
	c.collectBroker(gauge, counter)
	c.collectProtocols(gauge, counter)
}

func (c *collector) collectAPI(out chan<- prometheus.Metric, gauge emitInt, counter emitCount) {
	a := c.server.apiStats()
	counter(descAPIRequests, int64(a.Requests))
	counter(descAPIRefused, int64(a.Refused))
	counter(descAPIPublished, int64(a.Published))
	counter(descAPIFailed, int64(a.Failed))
	counter(descAPILines, int64(a.BulkLines))
	gauge(descAPIRunning, a.Running)
	gauge(descAPIStreams, a.Streams)
	for o, n := range a.Outcomes {
		counter(descAPICommands, int64(n), o.Key, o.Method, strconv.FormatUint(uint64(o.Code), 10))
	}
	counter(descAPIKeys, c.server.apiKeys.reloads.Load(), "done")
	counter(descAPIKeys, c.server.apiKeys.failed.Load(), "failed")
	for method, s := range a.Durations {
		collectHistogram(out, descAPIDuration, s, method)
	}
}

func (c *collector) collectProtocols(gauge emitInt, counter emitCount) {
	p := c.server.plain.Stats()
	counter(descCommands, int64(p.Commands), "plain")
	for code, n := range p.Errors {
		counter(descErrors, int64(n), "plain", strconv.FormatUint(uint64(code), 10))
	}
	f := c.server.centrifuge.Stats()
	gauge(descClients, int(f.Connected))
	gauge(descUsers, f.Users)
	counter(descCommands, int64(f.Commands), "centrifuge")
	for code, n := range f.Errors {
		counter(descErrors, int64(n), "centrifuge", strconv.FormatUint(uint64(code), 10))
	}
	counter(descUntold, int64(f.Untold))
	for code, n := range f.Disconnects {
		counter(descDisconnects, int64(n), strconv.FormatUint(uint64(code), 10))
	}
}

func (c *collector) collectLogs(counter emitCount) {
	spans := c.server.tracer.Stats()
	counter(descSpans, spans.Ended, "ended")
	counter(descSpans, spans.Exported, "exported")
	counter(descSpans, spans.Failed, "failed")
	counter(descLogRepeats, c.server.repeats.Counted())
	for name, log := range map[string]*logs.Log{"audit": c.server.audit, "access": c.server.accessLines()} {
		st := log.Stats()
		counter(descLogLines, st.Written, name, "written")
		counter(descLogLines, st.Failed, name, "failed")
		counter(descLogLines, st.Dropped, name, "dropped")
	}
}

// apiStats adds up the two handlers of the API.
func (s *Server) apiStats() api.Stats {
	sum := s.api.Stats()
	if s.openAPI != nil {
		st := s.openAPI.Stats()
		sum.Requests += st.Requests
		sum.Refused += st.Refused
		sum.Published += st.Published
		sum.Failed += st.Failed
		sum.BulkLines += st.BulkLines
		sum.Running += st.Running
		sum.Streams += st.Streams
		for o, n := range st.Outcomes {
			sum.Outcomes[o] += n
		}
		for method, more := range st.Durations {
			both := sum.Durations[method]
			both.Add(more)
			sum.Durations[method] = both
		}
	}
	return sum
}
