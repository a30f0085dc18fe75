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
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// PublishingConfig says what Publishing does. The zero value works.
type PublishingConfig struct {
	Target Target
	// Connections publish at the same time, each one request after another. Zero means 8.
	Connections int
	// Together is how many publications one batch or broadcast has. Zero means 100.
	Together int
	// MessageBytes is the size of a publication's data, as JSON. Zero means 64.
	MessageBytes int
	// Duration is how long each way is measured. Zero means 5 s.
	Duration time.Duration
}

// The ways of publishing that Publishing compares.
const (
	PublishSingle    = "single"
	PublishBatch     = "batch"
	PublishBroadcast = "broadcast"
	PublishBulk      = "bulk"
)

var publishWays = []string{PublishSingle, PublishBatch, PublishBroadcast, PublishBulk}

// PublishingReport is what Publishing found.
type PublishingReport struct {
	Connections  int                      `json:"connections"`
	Together     int                      `json:"together"`
	MessageBytes int                      `json:"message_bytes"`
	Runs         map[string]PublishingRun `json:"runs"` // by way
}

// PublishingRun is one way's.
type PublishingRun struct {
	Publications int64         `json:"publications"` // that were accepted
	Took         time.Duration `json:"took_ns"`
	ServerCPU    time.Duration `json:"server_cpu_ns"`
	ClientCPU    time.Duration `json:"client_cpu_ns"`
}

// Publishing measures what a publication costs that comes over the API, in each of the ways there are. Nobody subscribes.
func Publishing(ctx context.Context, c PublishingConfig) (r PublishingReport, err error) {
	c.Connections, c.Together = cmp.Or(c.Connections, 8), cmp.Or(c.Together, 100)
	c.MessageBytes, c.Duration = max(cmp.Or(c.MessageBytes, 64), 2), cmp.Or(c.Duration, 5*time.Second)
	r = PublishingReport{Connections: c.Connections, Together: c.Together, MessageBytes: c.MessageBytes, Runs: map[string]PublishingRun{}}
	t, stop, err := c.Target.orOwn(ctx, "")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	c.Target = t
	if c.Target.API == "" {
		return r, errNoAPI
	}
	for _, way := range publishWays {
		run, err := c.run(ctx, way)
		if err != nil {
			return r, fmt.Errorf("%s: %w", way, err)
		}
		r.Runs[way] = run
	}
	return r, ctx.Err()
}

// run measures one way.
func (c PublishingConfig) run(ctx context.Context, way string) (r PublishingRun, err error) {
	api, err := url.Parse(c.Target.API)
	if err != nil {
		return r, err
	}
	begun := time.Now()
	serverCPU, err := cpu(c.Target.PID)
	if err != nil {
		return r, err
	}
	clientCPU, err := cpu(os.Getpid())
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	var publications atomic.Int64
	var failure atomic.Value
	var clients sync.WaitGroup
	for i := range c.Connections {
		clients.Go(func() {
			client := publisher{config: c, api: api, place: i, done: &publications}
			if err := client.run(ctx, way); err != nil {
				failure.Store(err)
				cancel()
			}
		})
	}
	clients.Wait()
	r.Publications, r.Took = publications.Load(), time.Since(begun)
	after, err := cpu(c.Target.PID)
	r.ServerCPU = after - serverCPU
	own, err2 := cpu(os.Getpid())
	r.ClientCPU = own - clientCPU
	if e, ok := failure.Load().(error); ok {
		err = errors.Join(err, e)
	}
	return r, errors.Join(err, err2)
}

// publisher is one connection.
type publisher struct {
	config PublishingConfig
	api    *url.URL
	place  int
	done   *atomic.Int64
}

func (p *publisher) run(ctx context.Context, way string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p.api.Host)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(p.config.Duration + 30*time.Second))
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

// data is what is published.
func (p *publisher) data() string { return `"` + strings.Repeat("x", p.config.MessageBytes-2) + `"` }

// request is one of a way, with its header, and how many publications it has.
func (p *publisher) request(way string) (request []byte, publications int) {
	var body strings.Builder
	publications = p.config.Together
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
	return fmt.Appendf(nil, "POST %s%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		p.api.Path, way, p.api.Host, body.Len(), body.String()), publications
}

// streamWindow is how many lines of a bulk may be unanswered: less than the buffers of both sockets hold.
const streamWindow = 256

// stream sends lines in one request, and counts the answers.
func (p *publisher) stream(ctx context.Context, conn net.Conn) error {
	const lines = 32 // of a chunk
	chunk := strings.Repeat(fmt.Sprintf("{\"channel\":\"c%d\",\"data\":%s}\n", p.place, p.data()), lines)
	chunk = fmt.Sprintf("%x\r\n%s\r\n", len(chunk), chunk)
	if _, err := fmt.Fprintf(conn, "POST %sbulk HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n", p.api.Path, p.api.Host); err != nil {
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

// String is the report for people.
func (r PublishingReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "publishing over the API: %d connections, %d B, %d together\n", r.Connections, r.MessageBytes, r.Together)
	for _, way := range publishWays {
		run := r.Runs[way]
		if run.Publications == 0 {
			continue
		}
		n := float64(run.Publications)
		fmt.Fprintf(&b, "  %-10s %8.0f/s  %6.2f CPU-µs of the server each (client: %.2f)\n", way,
			n/run.Took.Seconds(), run.ServerCPU.Seconds()*1e6/n, run.ClientCPU.Seconds()*1e6/n)
	}
	return b.String()
}
