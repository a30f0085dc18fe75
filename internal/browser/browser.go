package browser

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// startTimeout bounds one test's use of its browser, so that a page that never
// gets where the test waits for fails that test and not the whole run.
const startTimeout = 2 * time.Minute

// names are the commands under which distributions install chromium, in the order
// in which they are looked for.
var names = []string{"chromium", "chromium-browser", "google-chrome"}

// Start starts a browser and returns the context of its one tab, for chromedp.Do
// and chromedp.Run. The browser ends with the test; the context ends after two
// minutes at the latest.
//
// Without a chromium on the PATH the test is skipped with the reason, or fails if
// the environment has CI=true: there the browser tests are to be had.
//
// Every error, warning and uncaught exception on the page's console fails the test,
// violations of its Content-Security-Policy among them, unless its text contains
// one of expected: a browser itself logs each connection that fails.
//
// Call it from the test's goroutine.
func Start(t testing.TB, expected ...string) context.Context {
	t.Helper()
	return start(t, nil, expected)
}

// StartTrusting is Start for pages of a server with that certificate, whoever signed it.
func StartTrusting(t testing.TB, c *x509.Certificate, expected ...string) context.Context {
	t.Helper()
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	trusted := chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(sum[:]))
	return start(t, []chromedp.ExecAllocatorOption{trusted}, expected)
}

func start(t testing.TB, more []chromedp.ExecAllocatorOption, expected []string) context.Context {
	t.Helper()
	path := find(t)

	timeout, stop := context.WithTimeout(t.Context(), startTimeout)
	t.Cleanup(stop)
	allocator, release := chromedp.NewExecAllocator(timeout, append(options(t, path), more...)...)
	t.Cleanup(release)
	ctx, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(closeTab)

	watchConsole(ctx, t, expected)
	// Starts the process, which the first action does.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return ctx
}

// find returns the path of a chromium, or ends the test as Start says.
func find(t testing.TB) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const reason = "no chromium on the PATH: apt-get install chromium"
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
	return ""
}

// options returns the command line: nothing kept, nothing asked of the network
// but what the page asks for.
func options(t testing.TB, path string) []chromedp.ExecAllocatorOption {
	opts := append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...)
	opts = append(opts,
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.DisableGPU,
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.WindowSize(1280, 900),
	)
	if os.Geteuid() == 0 {
		// Chromium refuses to run as root with its sandbox.
		opts = append(opts, chromedp.NoSandbox)
	}
	return opts
}

// watchConsole fails the test for what the page complains about. It returns when
// the subscription stands; a goroutine reads until ctx ends, before the test does.
func watchConsole(ctx context.Context, t testing.TB, expected []string) {
	t.Helper()
	messages := chromedp.Console(ctx)
	var reader sync.WaitGroup
	reader.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if complaint(m.Type) && !containsAny(m.Text, expected) {
				t.Errorf("console %s at %s:%d: %s", m.Type, m.URL, m.Line+1, m.Text)
			}
		}
	})
	// Cleanups run last in, first out: the caller's closeTab comes after this one,
	// so end the tab here and then wait for the reader.
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("close the browser: %v", err)
		}
		reader.Wait()
	})
}

func complaint(kind chromedp.ConsoleType) bool {
	switch kind {
	case chromedp.ConsoleWarning, chromedp.ConsoleError, chromedp.ConsoleException:
		return true
	}
	return false
}

func containsAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}
