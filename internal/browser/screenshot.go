package browser

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// Screenshot writes what the tab shows to build/screenshots/NAME.png at the
// module's root, for people to look at; it compares nothing. Errors end the test.
func Screenshot(ctx context.Context, t testing.TB, name string) {
	t.Helper()
	screenshot(ctx, t, name, chromedp.CaptureScreenshot())
}

// ScreenshotWhole is Screenshot of the whole page, also of what does not fit on the screen.
func ScreenshotWhole(ctx context.Context, t testing.TB, name string) {
	t.Helper()
	screenshot(ctx, t, name, chromedp.FullScreenshot(100)) // which is PNG
}

func screenshot(ctx context.Context, t testing.TB, name string, take chromedp.Action[[]byte]) {
	t.Helper()
	png, err := chromedp.Run(ctx, take)
	if err != nil {
		t.Fatalf("screenshot %s: %v", name, err)
	}
	dir := filepath.Join(moduleRoot(t), "build", "screenshots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// moduleRoot returns the nearest directory upwards that has a go.mod: go test runs
// a test in its package's directory.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test's directory")
		}
		dir = parent
	}
}
