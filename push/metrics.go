package push

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/millpond/millpond/push/api"
	"github.com/millpond/millpond/session"
)

// registry has the process's own metrics, Go's and ours.
func (s *Server) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{server: s},
	)
	return r
}

// collector turns the figures that the rooms keep into metrics when somebody asks:
// nothing is counted twice, and no message pays for it.
type collector struct{ server *Server }

var _ prometheus.Collector = (*collector)(nil)

func desc(name, help string, labels ...string) *prometheus.Desc {
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
	descWorkers       = desc("workers", "Handlers that run.")
	descWaiting       = desc("workers_waiting", "Handlers that wait for a worker.")
	descChannels      = desc("channels", "Channels with subscribers.")
	descSubscriptions = desc("subscriptions", "Subscriptions.")
	descPublications  = desc("publications_total", "Publications handed over by the broker.")
	descDeliveries    = desc("deliveries_total", "Publications handed to subscribers.")
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
	descKeys          = desc("idempotency_keys", "Keys of publications that are known, so that none is made twice.")
	descLogLines      = desc("log_lines_total", "Lines of the audit log.", "log", "outcome")
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
	out <- prometheus.MustNewConstMetric(descLoopLag, prometheus.GaugeValue, st.LoopLag.Seconds())
	collectEngine(st, gauge, counter)
	if c.server.certs != nil {
		c.collectCerts(out, counter)
	}
	c.collectTokens(gauge, counter)
	c.collectHub(gauge, counter)
	c.collectLogs(counter)
	c.server.backend.collect(out, gauge, counter)
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
	counter(descReadPauses, st.ReadPauses)
	counter(descPanics, st.Panics)
	gauge(descWorkers, st.Pool.Running)
	gauge(descWaiting, st.Pool.Waiting)
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

func (c *collector) collectHub(gauge emitInt, counter emitCount) {
	h := c.server.hub.Stats()
	gauge(descChannels, h.Channels)
	gauge(descSubscriptions, h.Subscriptions)
	gauge(descHubWaiting, h.Waiting)
	counter(descPublications, int64(h.Publications))
	counter(descDeliveries, int64(h.Deliveries))
	gauge(descKeys, c.server.broker.Stats().Keys)
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
	st := c.server.audit.Stats()
	counter(descLogLines, st.Written, "audit", "written")
	counter(descLogLines, st.Failed, "audit", "failed")
	counter(descLogLines, st.Dropped, "audit", "dropped")
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
	}
	return sum
}
