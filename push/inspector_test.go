package push

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/millpond/millpond/internal/browser"
)

// evaluate returns what a JavaScript expression is.
func (p page) evaluate(expression string) string {
	p.t.Helper()
	s, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return s
}

// run runs a JavaScript statement.
func (p page) run(statement string) { p.evaluate(`(() => { ` + statement + `; return "" })()`) }

// frameRow finds a row of the inspector.
func frameRow(kind, from, text string) string {
	selector := `[data-testid=frame-row][data-kind=` + kind + `]`
	if from != "" {
		selector += `[data-from=` + from + `]`
	}
	return `[...document.querySelectorAll('` + selector + `')].find(e => e.textContent.includes(` + "`" + text + "`" + `))`
}

// settled is when no transition runs.
const settled = `document.getAnimations().every(a => a.playState !== "running" || a.effect.getTiming().iterations === Infinity)`

// The playground draws the frames of its own connection, bit by bit, and nobody else's.
func TestInspector(t *testing.T) {
	ctx := browser.Start(t)
	s := startServer(t, Config{Dev: true, NoCompression: true})
	p := page{t, ctx}
	other := dial(t, s.ws("/echo"))
	p.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate("http://"+s.Addrs()[0].String()+"/#frames"))
	p.waitFor(`document.getElementById("frames-note").textContent.includes("Press Open")`)
	p.do(chromedp.Click("#open"))
	p.waitFor(readyState + ` === "1"`)
	p.waitFor(frameRow("open", "", "101") + ` !== undefined`)
	accept := p.evaluate(`document.querySelector("#frame .steps li:last-child code").textContent`)
	if page := p.evaluate(`document.getElementById("frame").textContent`); !strings.Contains(page, "Sec-WebSocket-Accept: "+accept) || !strings.Contains(page, "GET /echo?inspect=") {
		t.Errorf("the opening is %s, with %s", page, accept)
	}
	p.waitFor(settled)
	browser.Screenshot(ctx, t, "inspector-opening")

	p.do(chromedp.SetValue("#message", "Hello, pond!"), chromedp.Click("#send"))
	p.waitFor(frameRow("frame", "server", "Hello, pond!") + ` !== undefined`)
	send(t, other, "somebody else's")
	next(t, other)
	p.run(frameRow("frame", "client", "Hello, pond!") + ".click()")
	p.waitFor(`document.querySelectorAll("#frame .byte").length === 6`)
	bits := p.evaluate(`[...document.querySelectorAll("#frame .byte")].slice(0, 2).map(b => [...b.querySelectorAll(".bit")].map(e => e.textContent).join("")).join(" ")`)
	if bits != "10000001 10001100" {
		t.Errorf("the first bytes are %s", bits)
	}
	if xor := p.evaluate(`[...document.querySelectorAll("#frame .xor tr:nth-child(4) td")].map(e => e.textContent).join("")`); xor != "Hello, pond!" {
		t.Errorf("unmasked it is %q", xor)
	}
	// By keyboard: each field can be reached, and says what it is.
	p.run(`document.querySelector("#frame [data-field=opcode]").focus()`)
	if words := p.evaluate(`document.getElementById("frame-explain").textContent`); !strings.Contains(words, "0x1") || !strings.Contains(words, "UTF-8") {
		t.Errorf("the opcode is explained by %q", words)
	}
	if n := p.evaluate(`String(document.querySelectorAll("#frame [data-field][tabindex='0'][aria-label]").length)`); n != "8" {
		t.Errorf("%s fields can be reached by keyboard", n)
	}
	p.waitFor(settled)
	browser.Screenshot(ctx, t, "inspector-frame")

	p.do(chromedp.SetValue("#message", strings.Repeat("long ", 40)), chromedp.Click("#send"))
	p.waitFor(frameRow("frame", "server", "long long") + ` !== undefined`)
	p.do(chromedp.Click("#theme"), chromedp.EmulateViewport(390, 844))
	p.run(frameRow("frame", "client", "long long") + ".click()")
	p.run(`document.querySelector("#frame [data-field=extended]").focus()`)
	p.run(`document.getElementById("frames-panel").scrollIntoView()`)
	p.waitFor(settled)
	browser.Screenshot(ctx, t, "inspector-frame-narrow-dark")
	if wide := p.evaluate(`String(document.documentElement.scrollWidth)`); wide != "390" {
		t.Errorf("on a phone the page is %s wide", wide)
	}

	p.do(chromedp.SetValue("#close-code", "4001"), chromedp.SetValue("#close-reason", "enough"), chromedp.Click("#close"))
	p.waitFor(frameRow("end", "", "client close") + ` !== undefined`)
	p.run(frameRow("frame", "client", "4001") + ".click()")
	p.waitFor(`document.getElementById("frame").textContent.includes("private use")`)
	p.do(chromedp.EmulateViewport(1280, 900))
	p.waitFor(settled)
	browser.Screenshot(ctx, t, "inspector-close-dark")
	if all := p.evaluate(`document.getElementById("frames").textContent`); strings.Contains(all, "somebody") {
		t.Errorf("the frames of another connection are among %s", all)
	}
	// Another connection of the same page is seen as well.
	p.do(chromedp.Click("#open"))
	p.waitFor(`document.querySelectorAll("[data-testid=frame-row][data-kind=open]").length === 2`)
}

// A compressed message is shown as it is on the wire, and inflated.
func TestInspectorInflates(t *testing.T) {
	ctx := browser.Start(t)
	s := startServer(t, Config{Dev: true})
	p := page{t, ctx}
	p.do(chromedp.EmulateViewport(390, 844), chromedp.Navigate("http://"+s.Addrs()[0].String()+"/#frames"))
	p.do(chromedp.Click("#open"))
	p.waitFor(readyState + ` === "1"`)
	message := strings.Repeat("smaller and ", 30)
	p.do(chromedp.SetValue("#message", message), chromedp.Click("#send"))
	p.waitFor(frameRow("frame", "server", "smaller and") + ` !== undefined`)
	p.run(frameRow("frame", "server", "smaller and") + ".click()")
	p.waitFor(`document.querySelector("#frame [data-field=rsv1] .bit").textContent === "1"`)
	if text := p.evaluate(`[...document.querySelectorAll("#frame pre")].at(-1).textContent`); text != message {
		t.Errorf("inflated it is %q", text)
	}
	if wide := p.evaluate(`[...document.querySelectorAll("#frame pre")].filter(e => e.scrollWidth > e.clientWidth).map(e => e.textContent).join()`); wide != "" {
		t.Errorf("on a phone one has to scroll sideways for %s", wide)
	}
	p.run(`document.querySelector("#frame [data-field=rsv1]").focus()`)
	p.run(`document.getElementById("frames-panel").scrollIntoView()`)
	p.waitFor(settled)
	browser.Screenshot(ctx, t, "inspector-compressed-narrow")
}
