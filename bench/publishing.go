package bench

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millpond/millpond/bench/report"
)

// Publishing measures what a publication costs that comes over the API, in each of the ways there are. Nobody
// subscribes.
type Publishing struct {
	// Together is how many publications one batch or broadcast has. Zero means 100.
	Together int
}

// Name implements Scenario.
func (Publishing) Name() string { return "api" }

// Prepare implements Scenario.
func (p Publishing) Prepare(o *Options) error {
	o.Connections, o.Duration, o.Size = cmp.Or(o.Connections, 8), cmp.Or(o.Duration, 5*time.Second), max(cmp.Or(o.Size, 64), 2)
	err := errors.Join(o.Speak("api", ProtocolEcho), o.Allow("api", "duration", "size"), atLeast("together", p.Together, 0))
	if o.Target.URL != "" && o.Target.API == "" {
		err = errors.Join(err, errNoAPI)
	}
	if p.Together > maxBroadcast {
		err = errors.Join(err, fmt.Errorf("--together %d: want at most %d", p.Together, maxBroadcast))
	}
	return err
}

// The ways of publishing that Publishing compares.
const (
	PublishSingle    = "single"
	PublishBatch     = "batch"
	PublishBroadcast = "broadcast"
	PublishBulk      = "bulk"
)

var publishWays = []string{PublishSingle, PublishBatch, PublishBroadcast, PublishBulk}

var wayText = map[string]string{
	PublishSingle: "one request each", PublishBatch: "requests with several", PublishBroadcast: "requests with one for several channels", PublishBulk: "lines of a stream",
}

// Run implements Scenario.
func (p Publishing) Run(ctx context.Context, r *Run) error {
	p.Together = cmp.Or(p.Together, 100)
	r.recording()
	for _, way := range publishWays {
		r.stage("%s", way)
		if err := p.measure(ctx, r, way); err != nil {
			return fmt.Errorf("%s: %w", way, err)
		}
	}
	return nil
}

// measure measures one way.
func (p Publishing) measure(ctx context.Context, r *Run, way string) error {
	api, err := url.Parse(r.Target.API)
	if err != nil {
		return err
	}
	m, err := r.mark(ctx, r.Target.gauge())
	if err != nil {
		return err
	}
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, r.Options.Duration)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var publications atomic.Int64
	var clients sync.WaitGroup
	for i := range r.Options.Connections {
		clients.Go(func() {
			one := publisher{Publishing: p, options: &r.Options, key: r.Target.APIKey, api: api, place: i, done: &publications}
			if err := one.run(ctx, way); err != nil {
				fail(err)
			}
		})
	}
	clients.Wait()
	c, err := m.costs(context.WithoutCancel(outer))
	n := publications.Load()
	each := func(d time.Duration) float64 { return d.Seconds() * 1e6 / float64(max(n, 1)) }
	r.Report.Add(report.Figure{
		Name: way + "/s", Value: float64(n) / max(c.took.Seconds(), 1e-9), Unit: "/s", Higher: true, Text: "publications, by " + wayText[way],
	})
	r.serverFigure(report.Figure{Name: "cpu-us/" + way, Value: each(c.server), Unit: "us", Text: "server CPU for each of those"}, c.visible)
	r.Report.Add(report.Figure{Name: "client-cpu-us/" + way, Value: each(c.client), Unit: "us", Text: "client CPU for each of those"})
	if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
		err = errors.Join(err, cause)
	}
	return err
}

// publisher is one connection.
type publisher struct {
	Publishing
	options *Options
	key     string
	api     *url.URL
	place   int
	done    *atomic.Int64
}

func (p *publisher) run(ctx context.Context, way string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p.api.Host)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(p.options.Duration + p.options.timeout()))
	if way == PublishBulk {
		return p.stream(ctx, conn)
	}
	request, publications := p.request(way)
	answers := bufio.NewReader(conn)
	for ctx.Err() == nil {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || bytes.Contains(body, []byte(`"error"`)) {
			return fmt.Errorf("answered with %s %.200s: %w", response.Status, body, err)
		}
		p.done.Add(int64(publications))
	}
	return nil
}

// credentials is the header with the API's key, empty without.
func (p *publisher) credentials() string {
	if p.key == "" {
		return ""
	}
	return "X-API-Key: " + p.key + "\r\n"
}

// data is what is published.
func (p *publisher) data() string { return `"` + strings.Repeat("x", p.options.Size-2) + `"` }

// request is one of a way, with its header, and how many publications it has.
func (p *publisher) request(way string) (request []byte, publications int) {
	var body strings.Builder
	publications = p.Together
	publication := fmt.Sprintf(`{"channel":"c%d","data":%s}`, p.place, p.data())
	switch way {
	case PublishSingle:
		way, publications = "publish", 1
		body.WriteString(publication)
	case PublishBatch:
		body.WriteString(`{"commands":[`)
		for i := range publications {
			body.WriteString(strings.Repeat(",", min(i, 1)) + `{"publish":` + publication + `}`)
		}
		body.WriteString(`]}`)
	default:
		body.WriteString(`{"channels":[`)
		for i := range publications {
			fmt.Fprintf(&body, `%s"c%d"`, strings.Repeat(",", min(i, 1)), i)
		}
		body.WriteString(`],"data":` + p.data() + `}`)
	}
	return fmt.Appendf(nil, "POST %s%s HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		p.api.Path, way, p.api.Host, p.credentials(), body.Len(), body.String()), publications
}

// streamWindow is how many lines of a bulk may be unanswered: less than the buffers of both sockets hold.
const streamWindow = 256

// stream sends lines in one request, and counts the answers.
func (p *publisher) stream(ctx context.Context, conn net.Conn) error {
	const lines = 32 // of a chunk
	chunk := strings.Repeat(fmt.Sprintf("{\"channel\":\"c%d\",\"data\":%s}\n", p.place, p.data()), lines)
	chunk = fmt.Sprintf("%x\r\n%s\r\n", len(chunk), chunk)
	if _, err := fmt.Fprintf(conn, "POST %sbulk HTTP/1.1\r\nHost: %s\r\n%sTransfer-Encoding: chunked\r\n\r\n", p.api.Path, p.api.Host, p.credentials()); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	window := make(chan struct{}, streamWindow/lines)
	sent := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			window <- struct{}{}
			if _, err := io.WriteString(conn, chunk); err != nil {
				sent <- err
				return
			}
		}
		_, err := io.WriteString(conn, "0\r\n\r\n")
		sent <- err
	}()
	n := 0
	for answers := bufio.NewScanner(response.Body); answers.Scan(); {
		if !bytes.Contains(answers.Bytes(), []byte(`"result"`)) {
			err = fmt.Errorf("answered with %.200s", answers.Bytes())
			_ = conn.Close()
			break
		}
		p.done.Add(1)
		if n++; n%lines == 0 {
			<-window
		}
	}
	for len(window) > 0 { // of a stream that broke
		<-window
	}
	return errors.Join(err, <-sent)
}
