package report

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/millpond/millpond/internal/browser"
)

// measured is a report like those of a server under load.
func measured(seed uint64, slower float64) *Report {
	random := rand.New(rand.NewPCG(seed, 1))
	r := sample()
	r.Latencies, r.Figures, r.Series, r.Errors, r.Warnings = nil, nil, nil, nil, nil
	r.Duration = time.Minute
	d, login := r.Distribution("round trip", "ns"), r.Distribution("login", "ns")
	for range 200_000 {
		v := math.Exp(random.NormFloat64()*0.35) * 1.2e6 * slower
		if random.IntN(50) == 0 {
			v *= 6 // collections of garbage, say
		}
		d.Record(int64(v))
		login.Record(int64(v*3 + 1e6))
	}
	wave := func(base, noise float64) (out []float64) {
		for i := range 60 {
			out = append(out, base*(1+noise*random.NormFloat64())*(1+0.05*math.Sin(float64(i)/7)))
		}
		return out
	}
	series := func(plot, name, unit string, values []float64) {
		s := Series{Plot: plot, Name: name, Unit: unit}
		for i, v := range values {
			s.Points = append(s.Points, [2]float64{float64(i + 1), v})
		}
		r.Series = append(r.Series, s)
	}
	series("Latency over time", "p50", "ns", wave(1.2e6*slower, .02))
	series("Latency over time", "p99", "ns", wave(7.3e6*slower, .1))
	series("Latency over time", "max", "ns", wave(14e6*slower, .3))
	speed := wave(189_000/slower, .03)
	series("Throughput", "messages", "/s", speed)
	series("CPU", "server", "%", wave(88, .02))
	series("CPU", "client", "%", wave(81, .02))
	ramp := make([]float64, 60)
	for i := range ramp {
		ramp[i] = math.Min(float64(i)*500, 10_000)
	}
	series("Connections", "open", "", ramp)
	memory := Series{Plot: "Memory per connection", Name: "RSS", Unit: "B", X: "connections"}
	kernel := Series{Plot: "Memory per connection", Name: "kernel", Unit: "B", X: "connections"}
	for n := 500.0; n <= 10_000; n += 500 {
		memory.Points = append(memory.Points, [2]float64{n, 320 + 90_000/n*(1+0.1*random.Float64())})
		kernel.Points = append(kernel.Points, [2]float64{n, 3900 + 100*random.Float64()})
	}
	r.Series = append(r.Series, memory, kernel)
	cpu := wave(6.4*slower, .03)
	r.Add(d.Figures("", "round trip")...)
	r.Figures[2].Budget = MustLimit("p99>50ms")
	r.Add(
		Figure{Name: "lost", Text: "messages that did not come back", Budget: MustLimit("lost>0")},
		Figure{Name: "cpu-us/message", Value: median(cpu), Unit: "us", Text: "server CPU for a message", Budget: MustLimit("cpu-us/message>7us"), Samples: cpu},
		Figure{Name: "x of bare", Value: 1.08 * slower, Unit: "x", Text: "server CPU beside that of a bare epoll loop", Budget: MustLimit("x of bare>1.15x"), Samples: []float64{1.07, 1.08, 1.1}},
		Figure{Name: "bytes/conn", Value: 334, Unit: "B", Text: "growth of the server's RSS for a connection", Budget: MustLimit("bytes/conn>512B")},
		Figure{Name: "kernel-bytes/conn", Value: 3950, Unit: "B", Text: "growth of the kernel's own objects on the whole machine per connection, of both ends if they are on it"},
		Figure{Name: "messages/s", Value: median(speed), Unit: "/s", Higher: true, Text: "messages that came back", Samples: speed},
		Figure{Name: "goroutines", Text: "of the server", Missing: "its metrics are not known: --metrics"},
	)
	return r
}

const hostile = `</style></title><script>alert(1)</script><img src=x onerror=alert(1)>"'` + "`" + ` javascript:alert(1) {{.}} <svg onload=alert(1)>`

// hostileReport has the text wherever a report has one.
func hostileReport() *Report {
	r := sample()
	e := &r.Environment
	r.Scenario, r.Command, r.Warnings, r.Errors = hostile, []string{hostile}, []string{hostile}, map[string]uint64{hostile: 1}
	e.Kernel, e.CPU, e.Go, e.Millpond, e.Server = hostile, hostile, hostile, hostile, []string{hostile}
	e.Sysctl, e.Limits = map[string]string{hostile: hostile}, map[string]string{hostile: hostile}
	for i := range r.Figures {
		f := &r.Figures[i]
		f.Name, f.Unit, f.Text = f.Name+hostile, hostile, hostile
		if f.Missing != "" {
			f.Missing = hostile
		}
	}
	r.Latencies[0].Name, r.Latencies[0].Unit = hostile, hostile
	for i := range r.Series {
		r.Series[i].Plot, r.Series[i].Unit, r.Series[i].X = hostile, hostile, hostile
	}
	return r
}

// serve serves pages by path. Anything else that a page asks for fails the test.
func serve(t *testing.T, pages map[string]func(*bytes.Buffer) error) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		write := pages[r.URL.Path]
		if write == nil {
			t.Errorf("the page asks for %s", r.URL)
			http.NotFound(w, r)
			return
		}
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(b.Bytes())
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// comparisonOf is a comparison of two reports.
func comparisonOf(t *testing.T, a, b *Report) *Comparison {
	t.Helper()
	return compare(t, []*Report{a}, []*Report{b}, false)
}

// page returns what an expression of JavaScript is in the tab. The browser's own evaluation is not the page's, so its
// policy does not hold for it.
func evaluate[T any](ctx context.Context, t *testing.T, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

func TestPages(t *testing.T) {
	ctx := browser.Start(t)
	report, slower := measured(1, 1), measured(2, 1.09)
	broken := measured(1, 1)
	broken.Cut = true
	broken.Fail("connection reset by peer", 12)
	broken.Fail("bad close code 1002", 1)
	broken.Warn("the client was the bottleneck: 98 % of a core")
	broken.Figures[6].Budget = MustLimit("cpu-us/message>5us")
	url := serve(t, map[string]func(*bytes.Buffer) error{
		"/report":     func(b *bytes.Buffer) error { return report.WriteHTML(b) },
		"/broken":     func(b *bytes.Buffer) error { return broken.WriteHTML(b) },
		"/empty":      func(b *bytes.Buffer) error { return New("connect", 0).WriteHTML(b) },
		"/comparison": func(b *bytes.Buffer) error { return comparisonOf(t, report, slower).WriteHTML(b) },
		"/hostile":    func(b *bytes.Buffer) error { return hostileReport().WriteHTML(b) },
		"/hostiles":   func(b *bytes.Buffer) error { return comparisonOf(t, hostileReport(), hostileReport()).WriteHTML(b) },
	})
	for _, path := range []string{"report", "broken", "empty", "comparison", "hostile", "hostiles"} {
		for _, width := range []int64{1280, 390} {
			if _, err := chromedp.Run(ctx, chromedp.EmulateViewport(width, 900)); err != nil {
				t.Fatal(err)
			}
			if _, err := chromedp.Run(ctx, chromedp.Navigate(url+"/"+path)); err != nil {
				t.Fatal(err)
			}
			if got := evaluate[int](ctx, t, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); got > 0 {
				t.Errorf("%s is %d px wider than a screen of %d", path, got, width)
			}
			// What a hostile text would make, were it not escaped; none of these are in our pages.
			if n := evaluate[int](ctx, t, `document.querySelectorAll("script, img, [onload], [onerror], style ~ style").length`); n > 0 {
				t.Errorf("%s: %d elements that no page of ours has", path, n)
			}
			cutOff := `[...document.querySelectorAll(".scroll")].filter((s) => s.scrollWidth > s.clientWidth).length`
			if n := evaluate[int](ctx, t, cutOff); n > 0 && width > 1000 && !strings.HasPrefix(path, "hostile") {
				t.Errorf("%s at %d px: %d tables are cut off at the right", path, width, n)
			}
			if path == "report" || path == "comparison" {
				touching := `[...document.querySelectorAll(".plot")].flatMap((p) => {
					const boxes = [...p.querySelectorAll(".tx text")].filter((t) => t.textContent).map((t) => t.getBoundingClientRect());
					return boxes.filter((b, i) => i > 0 && b.left < boxes[i - 1].right);
				}).length`
				if n := evaluate[int](ctx, t, touching); n > 0 {
					t.Errorf("%s at %d px: %d labels touch the one before", path, width, n)
				}
			}
			if strings.HasPrefix(path, "hostile") {
				if text := evaluate[string](ctx, t, `document.body.innerText`); !strings.Contains(text, "<script>alert(1)</script>") {
					t.Errorf("%s does not show the text as it is", path)
				}
			}
		}
	}
	// Every line is drawn within its box.
	if _, err := chromedp.Run(ctx, chromedp.Navigate(url+"/report")); err != nil {
		t.Fatal(err)
	}
	if n := evaluate[int](ctx, t, `document.querySelectorAll(".plot").length`); n != 7 {
		t.Errorf("%d plots", n)
	}
	outside := `[...document.querySelectorAll(".box path")].filter((p) => { const a = p.getBoundingClientRect(), b = p.closest(".box").getBoundingClientRect();
		return a.width < 100 || a.height < 1 || a.left < b.left - 2 || a.right > b.right + 2 || a.top < b.top - 2 || a.bottom > b.bottom + 2; }).length`
	if n := evaluate[int](ctx, t, outside); n != 0 {
		t.Errorf("%d lines are outside of their boxes, or nothing", n)
	}
}

// The policy stops even what would not be escaped.
func TestPagePolicy(t *testing.T) {
	ctx := browser.Start(t, "Content Security Policy")
	var b bytes.Buffer
	if err := sample().WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	evil := strings.Replace(b.String(), "<main>", `<main><script>document.title = "ran"</script><style>body { color: red }</style>`, 1)
	url := serve(t, map[string]func(*bytes.Buffer) error{"/": func(b *bytes.Buffer) error { b.WriteString(evil); return nil }})
	if _, err := chromedp.Run(ctx, chromedp.Navigate(url+"/")); err != nil {
		t.Fatal(err)
	}
	if title := evaluate[string](ctx, t, "document.title"); title != "millpond bench echo" {
		t.Errorf("the title is %q: a script ran", title)
	}
	if colour := evaluate[string](ctx, t, "getComputedStyle(document.body).color"); colour == "rgb(255, 0, 0)" {
		t.Error("a style that is not ours holds")
	}
	if size := evaluate[string](ctx, t, "getComputedStyle(document.body).fontSize"); size != "15px" {
		t.Errorf("our own style does not hold: %s", size)
	}
}

func TestAxis(t *testing.T) {
	labels := func(a axis) string {
		var out []string
		for _, t := range a.ticks(false) {
			out = append(out, t.Label)
		}
		return strings.Join(out, " | ")
	}
	for _, tt := range []struct {
		unit      string
		low, high float64
		wide      bool
		want      string
	}{
		{"/s", 180_000, 189_123, false, "0 | 50,000 /s | 100,000 /s | 150,000 /s | 200,000 /s"},
		{"ns", 1e6, 14e6, true, "0 | 5 ms | 10 ms | 15 ms"},
		{"ns", 1e5, 1e9, true, "100 µs | 1 ms | 10 ms | 100 ms | 1 s"},
		{"ns", 1e6, 5e7, true, "1 ms | 2 ms | 5 ms | 10 ms | 20 ms | 50 ms"},
		{"B", 0, 3 << 20, false, "0 | 1 MiB | 2 MiB | 3 MiB"},
		{"", 0, 0, false, "0 | 0.2 | 0.4 | 0.6 | 0.8 | 1"},
		{"", -5, 5, false, "-6 | -4 | -2 | 0 | 2 | 4 | 6"},
	} {
		if got := labels(newAxis(tt.unit, tt.low, tt.high, tt.wide)); got != tt.want {
			t.Errorf("%v to %v %s: %s, want %s", tt.low, tt.high, tt.unit, got, tt.want)
		}
	}
	for k, want := range map[float64]string{0: "min", 1: "p90", 2: "p99", 3: "p99.9", 4: "p99.99"} {
		if got := nines(k); got != want {
			t.Errorf("%v nines are %s, want %s", k, got, want)
		}
	}
}

// No peak is lost to the screen's width.
func TestThinned(t *testing.T) {
	points := make([][2]float64, 100_000)
	for i := range points {
		points[i] = [2]float64{float64(i), 1}
	}
	points[54_321][1], points[77_777][1] = 9, -9
	got := thinned(points)
	var high, low bool
	for i, p := range got {
		high, low = high || p[1] == 9, low || p[1] == -9
		if i > 0 && p[0] < got[i-1][0] {
			t.Errorf("point %d goes back", i)
		}
	}
	if len(got) > maxDrawn+2 || !high || !low {
		t.Errorf("%d points, peaks kept: %v, %v", len(got), high, low)
	}
}
