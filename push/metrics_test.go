package push

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
	dto "github.com/prometheus/client_model/go"

	"github.com/millpond/millpond/internal/eventsink"
	"github.com/millpond/millpond/internal/program"
	"github.com/millpond/millpond/internal/testcert"
	"github.com/millpond/millpond/session"
)

// kind is what a metric is by its name; that of histograms, which no suffix tells, is in the list.
func (m metric) kind() dto.MetricType {
	switch {
	case strings.HasSuffix(m.name, "_duration_seconds"):
		return dto.MetricType_HISTOGRAM
	case strings.HasSuffix(m.name, "_total"):
		return dto.MetricType_COUNTER
	}
	return dto.MetricType_GAUGE
}

func (m metric) unit() string {
	base := strings.TrimSuffix(m.name, "_total")
	switch {
	case strings.HasSuffix(base, "_timestamp_seconds"), strings.HasSuffix(base, "_start_time_seconds"):
		return "Unix time"
	case strings.HasSuffix(base, "_seconds"):
		return "seconds"
	case strings.HasSuffix(base, "_bytes"):
		return "bytes"
	}
	return ""
}

// row is the metric's in docs/metrics.md.
func (m metric) row() string {
	labels := ""
	if len(m.labels) > 0 {
		labels = "`" + strings.Join(m.labels, "`, `") + "`"
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s |", m.name, strings.ToLower(m.kind().String()), m.unit(), labels, m.help)
}

// docs/metrics.md has a row for each metric, and for none that is not there.
func TestMetricsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "| `millpond_") || strings.HasPrefix(line, "| `process_") {
			rows[strings.TrimSpace(line)]++
		}
	}
	for _, m := range catalog {
		if rows[m.row()] != 1 {
			t.Errorf("docs/metrics.md has %d times\n%s", rows[m.row()], m.row())
		}
		delete(rows, m.row())
	}
	for row := range rows {
		t.Errorf("docs/metrics.md has what there is not:\n%s", row)
	}
}

// everything is a server with all that has metrics.
func everything(t *testing.T) *Server {
	return startServer(t, Config{
		Dev: true, APIKeys: []string{"key"}, Engine: session.Config{MaxConnections: 100}, Version: "test",
		Webhooks: Webhooks{Endpoints: []Webhook{{Name: "backend", Endpoint: "http://127.0.0.1:1"}}, RPC: "backend"},
		Events:   Events{Kinds: []string{"channel_occupied"}, EventsConfig: EventsConfig{URL: eventsink.Start(t, nil).URL}},
	})
}

// load makes the server's figures move, also by what nobody should send.
func load(t *testing.T, s *Server, round int) {
	t.Helper()
	c := dial(t, s.ws("/push?channels=load"))
	next(t, c)
	for i := range 40 {
		request(t, "POST", s.internalURL("/api/publish"), `{"channel":"load","data":1}`)
		next(t, c)
		request(t, "POST", s.internalURL("/api/publish"), fmt.Sprintf(`{"channel":"made-up-%d-%d","data":1}`, round, i))
		request(t, "POST", s.internalURL(fmt.Sprintf("/api/made-up-%d-%d", round, i)), `{}`)
		request(t, "POST", s.internalURL("/api/publish"), `{"channel":"load"`, "X-API-Key", fmt.Sprint("made up", round, i))
	}
	send(t, c, fmt.Sprintf(`{"type":"made up %d"}`, round))
	next(t, c)
	_ = c.Close(websocket.StatusCode(4000+round), "done")
	for _, header := range []string{"Upgrade: made-up", "Sec-WebSocket-Version: 99", "Sec-WebSocket-Key: short", "Origin: http://made-up"} {
		refused(t, s, fmt.Sprintf("%s-%d", header, round))
	}
	request(t, "GET", "http://"+s.Addrs()[0].String()+fmt.Sprintf("/made-up-%d", round), "")
	sdk := dial(t, s.ws("/connection/websocket"))
	send(t, sdk, fmt.Sprintf(`{"id":1,"connect":{"name":"made-up-%d"}}`, round))
	next(t, sdk)
	send(t, sdk, fmt.Sprintf(`{"id":2,"rpc":{"method":"made-up-%d"}}`, round))
	next(t, sdk)
	_ = sdk.CloseNow()
}

// refused makes an opening handshake with a header that it should not have.
func refused(t *testing.T, s *Server, header string) {
	t.Helper()
	c, err := net.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	name, _, _ := strings.Cut(header, ":")
	fmt.Fprintf(c, "GET /echo HTTP/1.1\r\nHost: x\r\n%s\r\n", header)
	for _, line := range []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="} {
		if !strings.HasPrefix(line, name) {
			fmt.Fprint(c, line, "\r\n")
		}
	}
	fmt.Fprint(c, "\r\n")
	_, _ = bufio.NewReader(c).ReadString('\n')
}

// series are all but those of Go, and the families that they belong to.
func series(t *testing.T, s *Server) (list []string, families map[string]*dto.MetricFamily) {
	t.Helper()
	gathered, err := s.registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	families = map[string]*dto.MetricFamily{}
	for _, f := range gathered {
		if strings.HasPrefix(f.GetName(), "go_") {
			continue
		}
		families[f.GetName()] = f
		for _, m := range f.GetMetric() {
			list = append(list, fmt.Sprint(f.GetName(), m.GetLabel()))
		}
	}
	return list, families
}

// Every metric has a help and a name that tells what it is, and what clients make up makes no new series.
func TestMetricsAreBounded(t *testing.T) {
	s := everything(t)
	load(t, s, 0)
	settled := func() bool { return s.engine.Stats().Connections == 0 }
	eventually(t, "all are gone", settled)
	before, families := series(t, s)
	for name, f := range families {
		i := slices.IndexFunc(catalog, func(m metric) bool { return m.name == name })
		if i < 0 {
			t.Errorf("%s is not in the catalog", name)
			continue
		}
		m := catalog[i]
		if f.GetHelp() == "" || f.GetType() != m.kind() {
			t.Errorf("%s is a %v, want a %v; help %q", name, f.GetType(), m.kind(), f.GetHelp())
		}
		for _, one := range f.GetMetric() {
			for _, label := range one.GetLabel() {
				if !slices.Contains(m.labels, label.GetName()) || !labelValue.MatchString(label.GetValue()) {
					t.Errorf("%s has the label %v", name, label)
				}
			}
		}
		if n := len(f.GetMetric()); n > 100 {
			t.Errorf("%s has %d series", name, n)
		}
	}
	for round := range 3 {
		load(t, s, 1+round)
	}
	eventually(t, "all are gone", settled)
	after, _ := series(t, s)
	for _, one := range after {
		// The average needs a connection, and there may be one.
		if !slices.Contains(before, one) && !strings.HasPrefix(one, "millpond_connection_memory_bytes") {
			t.Errorf("new: %s", one)
		}
	}
}

// labelValue is a word, several or a number: nothing that somebody has made up.
var labelValue = regexp.MustCompile(`^[a-z0-9_. -]{0,64}$`)

// All metrics of a server are as Prometheus's own tool wants them.
func TestPromtoolLikesTheMetrics(t *testing.T) {
	promtool := program.Find(t, "promtool")
	s := everything(t)
	load(t, s, 0)
	status, text := request(t, "GET", s.internalURL("/metrics"), "")
	if status != 200 || !strings.Contains(text, "millpond_fanout_duration_seconds_bucket") {
		t.Fatal(status, text)
	}
	c := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	c.Stdin = strings.NewReader(text)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil || out.Len() > 0 {
		t.Errorf("promtool: %v\n%s", err, out.String())
	}
}

// A path may be any bytes, and a label only UTF-8: such a one is quoted, and the scrape lives.
func TestMetricsOfACertificateWhosePathIsNotUTF8(t *testing.T) {
	cert, key := testcert.PEM(testcert.NewAuthority().Issue("127.0.0.1"))
	dir := t.TempDir()
	pair := TLSPair{Certificate: filepath.Join(dir, "a\xffb.pem"), Key: filepath.Join(dir, "key.pem")}
	for path, b := range map[string][]byte{pair.Certificate: cert, pair.Key: key} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := startServer(t, Config{TokenSecret: secret, TLS: TLS{Pairs: []TLSPair{pair}}})
	if status, body := request(t, "GET", s.internalURL("/metrics"), ""); status != http.StatusOK || !strings.Contains(body, `a\\xffb.pem\""} `) {
		t.Errorf("%d %.500s", status, body)
	}
}
