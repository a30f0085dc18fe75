package push

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/millpond/millpond/internal/browser"
	"github.com/millpond/millpond/internal/testcert"
)

// page is the playground in a real browser.
type page struct {
	t   *testing.T
	ctx context.Context
}

func (p page) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// waitFor waits until a JavaScript expression is true.
func (p page) waitFor(expression string) {
	p.t.Helper()
	if _, err := chromedp.Run(p.ctx, chromedp.Poll[bool](expression)); err != nil {
		p.t.Fatalf("wait for %s: %v", expression, err)
	}
}

// rows returns the texts of the log rows of one direction.
func (p page) rows(direction string) string {
	p.t.Helper()
	text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](fmt.Sprintf(
		`[...document.querySelectorAll('[data-testid=log-row][data-direction=%s] [data-testid=log-body]')].map(e => e.textContent).join("\n")`, direction)))
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

const readyState = `document.getElementById("ready-state").dataset.state`

// What a newcomer does first: open the page, open a socket, echo, close; and then
// publish with curl and see it in every page and client.
func TestPlayground(t *testing.T) {
	ctx := browser.Start(t)
	s := startServer(t, Config{Dev: true})
	p := page{t, ctx}

	p.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate("http://"+s.Addrs()[0].String()+"/"))
	p.waitFor(readyState + ` === "none" || ` + readyState + ` === "3"`)
	p.do(chromedp.Click("#open"))
	p.waitFor(readyState + ` === "1"`)
	p.do(chromedp.SetValue("#message", "hello, pond"), chromedp.Click("#send"))
	p.waitFor(`[...document.querySelectorAll('[data-testid=log-row][data-direction=received]')].some(e => e.textContent.includes("hello, pond"))`)
	browser.Screenshot(ctx, t, "e2e-echo")

	p.do(chromedp.SetValue("#close-code", "4001"), chromedp.SetValue("#close-reason", "enough"),
		chromedp.Click("#close"))
	p.waitFor(readyState + ` === "3"`)
	for id, want := range map[string]string{"last-close-code": "4001", "last-close-clean": "", "ready-state-name": "CLOSED"} {
		got, err := chromedp.Run(ctx, chromedp.TextContent("#"+id))
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("#%s is %q (%v), want %q", id, got, err, want)
		}
	}

	client := dial(t, s.ws("/push?channels=news"))
	next(t, client)
	p.do(chromedp.Click("label[for=mode-push]"), chromedp.Click("#open"))
	p.waitFor(readyState + ` === "1"`)
	p.do(chromedp.SetValue("#channel", "news"), chromedp.Click("#subscribe"))
	p.waitFor(`document.querySelectorAll('[data-testid=subscription][data-channel=news]').length === 1`)
	for n := range 3 {
		if status, body := request(t, "POST", s.internalURL("/api/publish"), fmt.Sprintf(`{"channel":"news","data":{"n":%d}}`, n)); status != 200 {
			t.Fatalf("publish: %d %s", status, body)
		}
	}
	p.waitFor(`document.querySelectorAll('[data-testid=log-row][data-channel=news][data-offset="3"]').length === 1`)
	rows := p.rows("received")
	first, last := strings.Index(rows, `"n": 0`), strings.Index(rows, `"n": 2`)
	if first < 0 || last < first {
		t.Errorf("publications are not there in order: %s", rows)
	}
	for n := range 3 {
		if got := next(t, client); !strings.Contains(got, fmt.Sprintf(`"data":{"n":%d}`, n)) {
			t.Errorf("client got %s", got)
		}
	}
	browser.Screenshot(ctx, t, "e2e-push")
	// As a phone at night shows it.
	p.do(chromedp.EmulateViewport(390, 844), chromedp.Click("#theme"))
	p.waitFor(`document.getAnimations().every(a => a.playState !== "running" || a.effect.getTiming().iterations === Infinity)`)
	browser.Screenshot(ctx, t, "e2e-push-narrow-dark")
}

// The same page over TLS opens its socket over TLS, in a browser's eyes a secure context.
func TestPlaygroundOverTLS(t *testing.T) {
	certificate := testcert.NewAuthority().Issue("127.0.0.1")
	ctx := browser.StartTrusting(t, certificate.Leaf)
	dir := t.TempDir()
	pair := TLSPair{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	cert, key := testcert.PEM(certificate)
	for path, b := range map[string][]byte{pair.Certificate: cert, pair.Key: key} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := startServer(t, Config{Dev: true, TLS: TLS{Pairs: []TLSPair{pair}}})
	p := page{t, ctx}
	p.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate("https://"+s.Addrs()[0].String()+"/"))
	p.waitFor(`isSecureContext && location.protocol === "https:"`)
	p.do(chromedp.Click("#open"))
	p.waitFor(readyState + ` === "1"`)
	text := strings.Repeat("over TLS ", 2000) // more than a record
	p.do(chromedp.SetValue("#message", text), chromedp.Click("#send"))
	p.waitFor(`[...document.querySelectorAll('[data-testid=log-row][data-direction=received]')].some(e => e.textContent.includes("over TLS"))`)
	p.do(chromedp.Click("#close"))
	p.waitFor(readyState + ` === "3"`)
}
