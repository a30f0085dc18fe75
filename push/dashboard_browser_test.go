package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/procfs"

	"github.com/millpond/millpond/internal/browser"
	"github.com/millpond/millpond/push/api"
	"github.com/millpond/millpond/push/hub"
)

const (
	boardState = `document.getElementById("status").dataset.state`

	// hostileName is what a stranger calls itself.
	hostileName = `<img src=x onerror="document.title='owned'">`
)

// traffic has clients come, listen and go, and publishes, until the test ends.
func traffic(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	open := func(user, channels string) *websocket.Conn {
		claims := jwt.MapClaims{"sub": user, "channels": strings.Split(channels, ","), "exp": time.Now().Add(time.Hour).Unix()}
		c, _, err := websocket.Dial(ctx, s.ws("/push?channels="+channels+"&token="+token(t, claims)), nil)
		if err != nil {
			return nil
		}
		return c
	}
	for i := range 24 {
		c := open(fmt.Sprint("user-", i), fmt.Sprintf("news,orders:%d", i%4))
		if c == nil {
			t.Fatal("no client")
		}
		running.Go(func() {
			for {
				if _, _, err := c.Read(ctx); err != nil {
					return
				}
			}
		})
	}
	running.Go(func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			channel := "news"
			if n%4 != 0 {
				channel = fmt.Sprint("orders:", n%6)
			}
			if n%9 == 0 {
				channel = hostileName
			}
			if _, err := s.hub.Publish(ctx, channel, fmt.Appendf(nil, `{"n":%d}`, n), hub.PublishOptions{}); err != nil {
				return
			}
			if n%50 == 0 {
				if c := open("guest", "news"); c != nil {
					_ = c.CloseNow()
				}
			}
		}
	})
}

// axe are the rules of accessibility, which make setup installs.
func axe(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../internal/sdk/node_modules/axe-core/axe.min.js")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("axe-core is not there: make setup")
	}
	return string(b)
}

// accessible checks the page as it is now by the rules of axe, those of WCAG 2.2 AA among them.
func (p page) accessible(rules, what string) {
	p.t.Helper()
	found, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](rules+`;axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.map(v =>
		v.impact + " " + v.id + ": " + v.help + "\n" + v.nodes.map(n => "    " + n.html.slice(0, 160) + " " + n.failureSummary.slice(0, 240)).join("\n")).join("\n"))`, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatal(err)
	}
	if found != "" {
		p.t.Errorf("%s is not accessible: %s", what, found)
	}
}

// text returns what an element says.
func (p page) text(id string) string {
	p.t.Helper()
	text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](fmt.Sprintf(`document.getElementById(%q).textContent`, id)))
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

// wear presses the page's button until the theme is as wanted.
func (p page) wear(theme string) {
	p.t.Helper()
	p.waitFor(fmt.Sprintf(`document.documentElement.dataset.theme === %q || (document.getElementById("theme").click(), false)`, theme))
	p.waitFor(`document.getAnimations().every(a => a.playState !== "running")`)
}

// What an operator does at night: log in, look, find somebody with a strange name, end the connection, publish; by keyboard where a keyboard will do.
func TestDashboardInBrowser(t *testing.T) {
	rules := axe(t)
	ctx := browser.Start(t, "401", "400")
	s := startServer(t, Config{TokenSecret: secret, Version: "v1.0.0", Namespaces: []Namespace{{Name: "orders"}}})
	all := scoped("dashboard", "manage", "publish")
	if err := s.api.SetKeys([]api.Key{all, scoped("dashboard")}); err != nil {
		t.Fatal(err)
	}
	traffic(t, s)
	strange := dial(t, s.ws("/push?channels=news&token="+token(t, jwt.MapClaims{"sub": hostileName, "channels": []string{"news"}, "exp": time.Now().Add(time.Hour).Unix()})))
	strange.SetReadLimit(-1)
	closed := make(chan error, 1)
	published := make(chan struct{})
	go func() {
		once := sync.OnceFunc(func() { close(published) })
		for {
			_, b, err := strange.Read(context.Background())
			if err != nil {
				closed <- err
				return
			}
			if strings.Contains(string(b), "from the dashboard") {
				once()
			}
		}
	}()

	p := page{t, ctx}
	p.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(s.internalURL("/")))
	p.waitFor(boardState + ` === "login"`)
	p.accessible(rules, "the login")
	p.do(chromedp.SendKeys("#login-key", "wrong\r"))
	p.waitFor(`document.getElementById("login-error").textContent.includes("does not know")`)
	p.do(chromedp.SendKeys("#login-key", "key-of-dashboard-manage-publish\r"))
	p.waitFor(boardState + ` === "live" && !document.getElementById("board").hidden && document.getElementById("login").hidden`)

	// Figures, graphs and tables are there, and move.
	p.waitFor(`/^\d/.test(document.getElementById("figure-out").textContent) && /^\d/.test(document.getElementById("figure-fanout").textContent)`)
	p.waitFor(`document.getElementById("figure-connections").textContent === "26"`)
	p.waitFor(`[...document.querySelectorAll("#busiest tbody tr")].some(r => r.textContent.startsWith("news"))`)
	p.waitFor(`document.querySelectorAll("#reasons tbody tr").length > 0 && document.querySelectorAll("#nodes tbody tr").length === 1`)
	p.waitFor(`[...document.querySelectorAll(".graphs canvas")].length === 6 && [...document.querySelectorAll(".graphs canvas")].every(c =>
		c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some(v => v > 0))`)

	// A name is text, wherever it is shown.
	p.waitFor(`[...document.querySelectorAll("#busiest button")].some(b => b.textContent.includes("onerror"))`)
	p.do(chromedp.KeyEvent("/"))
	p.waitFor(`document.activeElement.id === "find-value"`)
	p.waitFor(`(document.getElementById("find-value").value = "", true)`)
	p.do(chromedp.SendKeys("#find-value", hostileName+"\r")) // a real key does not type what it has done
	p.waitFor(`document.querySelectorAll('[data-testid=connection]').length === 1`)
	if row := p.text("found"); !strings.Contains(row, hostileName) || !strings.Contains(row, "127.0.0.1") {
		t.Errorf("found %s", row)
	}

	for _, look := range []struct {
		name          string
		width, height int64
		dark          bool
	}{{"light-wide", 1280, 900, false}, {"dark-wide", 1280, 900, true}, {"dark-narrow", 390, 844, true}, {"light-narrow", 390, 844, false}, {"light-small", 320, 640, false}} {
		theme := "light"
		if look.dark {
			theme = "dark"
		}
		p.do(chromedp.EmulateViewport(look.width, look.height))
		p.wear(theme)
		p.waitFor(fmt.Sprintf(`(scrollTo(0, 0), innerWidth === %d)`, look.width))
		p.waitFor(`document.getAnimations().every(a => a.playState !== "running")`)
		p.waitFor(`document.documentElement.scrollWidth <= innerWidth`) // nobody scrolls sideways
		p.accessible(rules, look.name)
		browser.ScreenshotWhole(ctx, t, "dashboard-"+look.name)
	}
	p.do(chromedp.EmulateViewport(1280, 900))

	// Details, and the end of the connection, by keyboard.
	p.do(chromedp.Focus("[data-testid=details]"), chromedp.KeyEvent("\r"))
	p.waitFor(`document.getElementById("details").open && document.getElementById("details-channels").textContent === "news"`)
	p.accessible(rules, "the details")
	browser.Screenshot(ctx, t, "dashboard-details")
	p.do(chromedp.KeyEvent("\x1b"))
	p.waitFor(`!document.getElementById("details").open`)

	p.do(chromedp.SendKeys("#publish-channel", "news"), chromedp.SendKeys("#publish-data", `{"text": "from the`), chromedp.Click("#publish"))
	p.waitFor(`document.getElementById("publish-error").textContent.includes("no JSON")`)
	p.do(chromedp.SendKeys("#publish-data", ` dashboard"}`), chromedp.Click("#publish"))
	p.waitFor(`document.getElementById("publish-answer").textContent.includes("offset")`)
	<-published
	p.waitFor(`(document.getElementById("publish-channel").value = "nowhere:x", true)`)
	p.do(chromedp.Click("#publish"))
	p.waitFor(`document.getElementById("publish-error").textContent.includes("102")`)

	p.do(chromedp.Focus("[data-testid=disconnect]"), chromedp.KeyEvent("\r"))
	p.waitFor(`document.getElementById("confirm").open && document.activeElement.id === "confirm-no"`)
	p.accessible(rules, "the question")
	p.do(chromedp.KeyEvent("\r")) // no
	p.waitFor(`!document.getElementById("confirm").open`)
	p.do(chromedp.Focus("[data-testid=disconnect]"), chromedp.KeyEvent("\r"))
	p.waitFor(`document.getElementById("confirm").open`)
	browser.Screenshot(ctx, t, "dashboard-confirm")
	p.do(chromedp.Click("#confirm-yes"))
	p.waitFor(`document.getElementById("found-note").textContent.includes("was disconnected")`)
	if err := <-closed; websocket.CloseStatus(err) != 3503 {
		t.Errorf("closed with %v", err)
	}

	p.do(chromedp.Focus("#help"), chromedp.KeyEvent("\r"))
	p.waitFor(`document.getElementById("keys").open`)
	p.accessible(rules, "the list of keys")
	p.do(chromedp.KeyEvent("\x1b"))
	p.do(chromedp.KeyEvent("1"))
	p.waitFor(`document.getElementById("window-60").checked`)

	// The key is the tab's, and goes with the logout; one that may only look is shown nothing else.
	p.do(chromedp.Reload())
	p.waitFor(boardState + ` === "live"`)
	p.do(chromedp.Click("#logout"))
	p.waitFor(boardState + ` === "login" && sessionStorage.length === 0 && document.getElementById("board").hidden`)
	p.do(chromedp.SendKeys("#login-key", "key-of-dashboard\r"))
	p.waitFor(boardState + ` === "live" && document.getElementById("publish-panel").hidden`)
	p.waitFor(`(document.getElementById("find-by").value = "any", document.getElementById("find-by").dispatchEvent(new Event("change")))`)
	p.do(chromedp.Click("#find"))
	p.waitFor(`document.querySelectorAll('[data-testid=details]').length > 10 && document.querySelectorAll('[data-testid=disconnect]').length === 0`)
	if title, _ := chromedp.Run(ctx, chromedp.Title()); strings.Contains(title, "owned") {
		t.Error("a name was markup")
	}
}

// What a stranger calls itself is told apart from what it looks like, however long it is, and takes no room from the rest.
func TestDashboardShowsNamesAsTheyAre(t *testing.T) {
	ctx := browser.Start(t, "401")
	s := startServer(t, Config{TokenSecret: secret})
	if err := s.api.SetKeys([]api.Key{scoped("dashboard")}); err != nil {
		t.Fatal(err)
	}
	channel := "\u202e" + strings.Repeat("y", 250)
	for _, user := range []string{"ann\u202enimda\x1b[2J\n\u200b", strings.Repeat("x", 3000)} {
		next(t, dial(t, s.ws("/push?channels="+url.QueryEscape(channel)+"&token="+token(t, jwt.MapClaims{"sub": user, "channels": []string{channel}}))))
	}
	p := page{t, ctx}
	p.do(chromedp.EmulateViewport(390, 844), chromedp.Navigate(s.internalURL("/")))
	p.waitFor(boardState + ` === "login"`)
	p.do(chromedp.SendKeys("#login-key", "key-of-dashboard\r"))
	p.waitFor(boardState + ` === "live"`)
	p.waitFor(`(document.getElementById("find-by").value = "any", document.getElementById("find-by").dispatchEvent(new Event("change")))`)
	p.do(chromedp.Click("#find"))
	p.waitFor(`document.querySelectorAll("[data-testid=connection]").length === 3`) // with the page itself
	if _, err := s.hub.Publish(t.Context(), channel, []byte("1"), hub.PublishOptions{}); err != nil {
		t.Fatal(err)
	}
	p.waitFor(`document.querySelectorAll("#busiest tbody tr").length === 1`)
	if row := p.text("found"); !strings.Contains(row, `ann\u{202e}nimda\u{1b}[2J\u{a}\u{200b}`) || !strings.Contains(row, strings.Repeat("x", 64)+"… (3,000 characters)") {
		t.Errorf("found %s", row)
	}
	const shown = `document.body.innerText + [...document.querySelectorAll("[title], [aria-label]")].map(e => e.title + e.ariaLabel).join("")`
	plain := func() {
		t.Helper()
		if all := p.evaluate(shown); strings.ContainsAny(all, "\u202e\x1b\u200b") || !strings.Contains(all, `\u{202e}yyy`) {
			t.Errorf("the page shows %q", all)
		}
	}
	plain()
	p.run(`document.getElementById("found").scrollIntoView()`)
	browser.Screenshot(ctx, t, "dashboard-names-narrow")
	if wide := p.evaluate(`String(document.documentElement.scrollWidth)`); wide != "390" {
		t.Errorf("on a phone the page is %s wide", wide)
	}
	p.run(`[...document.querySelectorAll("[data-testid=connection]")].find(r => r.textContent.includes("xxx")).querySelector("[data-testid=details]").click()`)
	p.waitFor(`document.getElementById("details").open`)
	plain()
	browser.Screenshot(ctx, t, "dashboard-names-details-narrow")
	if rest := p.evaluate(`String(document.getElementById("details").scrollWidth - document.getElementById("details").clientWidth)`); rest != "0" {
		t.Errorf("in the details %s pixels are beyond the edge", rest)
	}
}

// When the server goes the page says that its figures are old, and comes back with another one.
func TestDashboardComesBack(t *testing.T) {
	ctx := browser.Start(t, "Failed to load resource", "WebSocket connection", "ERR_")
	config := Config{Dev: true, InternalListen: freeAddress(t)}
	stopped := make(chan error, 1)
	first, err := New(Config{Dev: true, Listen: []string{"127.0.0.1:0"}, InternalListen: config.InternalListen, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	go func() { stopped <- first.Serve() }()
	p := page{t, ctx}
	p.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(first.internalURL("/")))
	p.waitFor(boardState + ` === "live"`)
	if err := first.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; !errors.Is(err, ErrServerClosed) {
		t.Fatal(err)
	}
	p.waitFor(boardState + ` === "offline"`)
	browser.Screenshot(ctx, t, "dashboard-offline")
	startServer(t, config)
	p.waitFor(boardState + ` === "live"`)
}

// A page that watches 10,000 connections, half of them subscribed to a channel that is busy, stays fluid: frames come at their pace, and none of its tasks is
// long. The server is another process, of development and without pings, which nobody would answer, of which MILLPOND_DASHBOARD_LOAD has "PID PUBLIC INTERNAL"; its CPU with the page and without is printed, and nothing
// asserted, for the machine is measured, too.
func TestDashboardStaysFluid(t *testing.T) {
	var pid int
	var public, internal string
	if _, err := fmt.Sscan(os.Getenv("MILLPOND_DASHBOARD_LOAD"), &pid, &public, &internal); err != nil {
		t.Skip("MILLPOND_DASHBOARD_LOAD is not set")
	}
	const connections = 10_000
	for i := range connections {
		path := "/push"
		if i%2 == 0 {
			path = "/push?channels=busy"
		}
		c, err := net.Dial("tcp", public)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", path)
		if _, err := c.Read(make([]byte, 1024)); err != nil { // what follows is few enough for the kernel's buffer
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		for ctx.Err() == nil {
			if r, err := http.Post("http://"+internal+"/api/publish", "application/json", strings.NewReader(`{"channel":"busy","data":1}`)); err == nil {
				_ = r.Body.Close()
			}
			time.Sleep(200 * time.Millisecond) // a rate
		}
	})
	cpu := func() float64 {
		p, err := procfs.NewProc(pid)
		if err != nil {
			t.Fatal(err)
		}
		st, err := p.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return st.CPUTime()
	}
	const span = 15 * time.Second
	measure := func() float64 {
		before := cpu()
		time.Sleep(span)
		return 100 * (cpu() - before) / span.Seconds()
	}
	without := measure()
	tab := browser.Start(t)
	p := page{t, tab}
	p.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate("http://"+internal+"/"))
	p.waitFor(`document.getElementById("figure-connections").textContent === "10,001"`)
	p.do(chromedp.Reload())
	p.waitFor(boardState + ` === "live"`)
	with := make(chan float64, 1)
	go func() { with <- measure() }()
	report, err := chromedp.Run(tab, chromedp.Evaluate[string](`new Promise(done => {
		const frames = [], long = [];
		new PerformanceObserver(l => long.push(...l.getEntries().map(e => Math.round(e.duration)))).observe({ type: "longtask" });
		let last = performance.now();
		const first = last;
		requestAnimationFrame(function frame(now) {
			frames.push(now - last);
			last = now;
			if (now - first < 15000) return requestAnimationFrame(frame);
			frames.sort((a, b) => a - b);
			const at = q => frames[Math.floor(q * (frames.length - 1))].toFixed(1);
			done(frames.length + " frames in 15 s, ms between two: 50 % " + at(.5) + ", 99 % " + at(.99) + ", most " + at(1) + "; tasks over 50 ms: [" + long +
				"]; " + document.getElementById("figure-connections").textContent + " connections, " + document.getElementById("figure-out").textContent + " out");
		});
	})`, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("server: %.2f %% of a core without a page, %.2f %% with one; page: %s", without, <-with, report)
	browser.ScreenshotWhole(tab, t, "dashboard-load")
	p.wear("dark")
	browser.ScreenshotWhole(tab, t, "dashboard-load-dark")
	p.do(chromedp.EmulateViewport(390, 844))
	p.waitFor(`(scrollTo(0, 0), document.documentElement.scrollWidth === 390)`)
	browser.Screenshot(tab, t, "dashboard-load-narrow-dark")
	p.wear("light")
	p.waitFor(`(document.querySelector(".graphs").scrollIntoView(), true)`)
	browser.Screenshot(tab, t, "dashboard-load-narrow")
}
