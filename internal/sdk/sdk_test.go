package sdk

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/millpond/millpond/internal/browser"
)

// codecs are the SDK's, each a build of its own.
var codecs = []string{"json", "protobuf"}

// runTimeout bounds one run of all cases. Each case has a bound of its own, so that this is for runs that hang.
const runTimeout = 100 * time.Second

// need ends the test without what make test installs: it is skipped, or fails if the environment has CI=true.
func need(t *testing.T) {
	t.Helper()
	for _, name := range []string{"cases.mjs", "harness.mjs", "node.mjs", "page.html", "package-lock.json"} {
		if _, err := os.ReadFile(name); err != nil { // go test caches by what the test itself has read
			t.Fatal(err)
		}
	}
	missing := ""
	if _, err := exec.LookPath("node"); err != nil {
		missing = "no node on the PATH"
	} else if _, err := os.Stat("node_modules/.installed"); err != nil {
		missing = "the SDK is not installed"
	}
	if missing != "" && os.Getenv("CI") == "true" {
		t.Fatal(missing + ": make setup")
	} else if missing != "" {
		t.Skip(missing + ": make setup")
	}
}

// subtests makes a subtest of each case. ended is closed when no more can come.
func (c *control) subtests(t *testing.T, ended <-chan struct{}) {
	t.Helper()
	timeout := time.After(runTimeout)
	for {
		select {
		case r := <-c.reports:
			if r.Name == "" {
				return
			}
			t.Run(r.Name, func(t *testing.T) {
				t.Logf("%d ms", r.Millis)
				if r.Error != "" {
					t.Error(r.Error)
				}
			})
		case <-ended:
			t.Fatal("the run has ended before its last case")
		case <-timeout:
			t.Fatalf("after %v cases are still running", runTimeout)
		}
	}
}

func TestNode(t *testing.T) {
	need(t)
	for _, codec := range codecs {
		t.Run(codec, func(t *testing.T) {
			c := newControl(t)
			command := exec.CommandContext(t.Context(), "node", "node.mjs", c.server.URL, codec)
			var output bytes.Buffer
			command.Stdout, command.Stderr = &output, &output
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = command.Wait()
			}()
			defer func() {
				_ = command.Process.Kill() // it has nothing more to say
				<-ended
				if output.Len() > 0 {
					t.Errorf("node says:\n%s", output.Bytes())
				}
			}()
			c.subtests(t, ended)
		})
	}
}

func TestBrowser(t *testing.T) {
	need(t)
	for _, codec := range codecs {
		t.Run(codec, func(t *testing.T) {
			// A browser logs each connection that is cut.
			ctx := browser.Start(t, "WebSocket connection to 'ws://127.0.0.1:")
			c := newControl(t)
			if err := chromedp.Do(ctx, chromedp.Navigate(c.server.URL+"/page.html?"+codec)); err != nil {
				t.Fatal(err)
			}
			c.subtests(t, ctx.Done())
		})
	}
}
