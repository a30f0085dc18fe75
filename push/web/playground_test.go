package web

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, method, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	Playground().ServeHTTP(w, r)
	return w
}

func TestPlayground(t *testing.T) {
	for _, tt := range []struct {
		method, path string
		status       int
		contentType  string
	}{
		{"GET", "/", 200, "text/html; charset=utf-8"},
		{"HEAD", "/", 200, "text/html; charset=utf-8"},
		{"GET", "/playground/playground.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/playground/playground.css", 200, "text/css; charset=utf-8"},
		{"GET", "/playground/favicon.svg", 200, "image/svg+xml"},
		{"GET", "/playground/", 404, ""},
		{"GET", "/playground/index.html", 404, ""},
		{"GET", "/playground/../playground.go", 404, ""},
		{"GET", "/nowhere", 404, ""},
		{"POST", "/", 405, ""},
	} {
		w := get(t, tt.method, tt.path)
		if w.Code != tt.status {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, w.Code, tt.status)
		}
		if got := w.Header().Get("Content-Type"); tt.contentType != "" && got != tt.contentType {
			t.Errorf("%s %s: %s, want %s", tt.method, tt.path, got, tt.contentType)
		}
		for name := range playgroundHeaders {
			if w.Header().Get(name) == "" {
				t.Errorf("%s %s: no %s", tt.method, tt.path, name)
			}
		}
	}
	if allow := get(t, "POST", "/").Header().Get("Allow"); allow != "GET, HEAD" {
		t.Errorf("Allow: %s", allow)
	}
}

func TestPlaygroundRevalidates(t *testing.T) {
	tag := get(t, "GET", "/").Header().Get("ETag")
	if w := get(t, "GET", "/", "If-None-Match", tag); tag == "" || w.Code != http.StatusNotModified {
		t.Errorf("tag %s: %d, want 304", tag, w.Code)
	}
}

// The page works under its own policy: nothing inline, nothing from elsewhere, and every file
// that it names is there.
func TestPageNamesItsOwnFiles(t *testing.T) {
	page := get(t, "GET", "/").Body.String()
	if regexp.MustCompile(`(?i)<script[^>]*>[^<]|<style|\son\w+=|style="`).MatchString(page) {
		t.Error("the page has inline script or style")
	}
	files := regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(page, -1)
	if len(files) < 3 {
		t.Fatalf("%d files", len(files))
	}
	for _, m := range files {
		if strings.Contains(m[1], "//") {
			continue // a link for people
		}
		if w := get(t, "GET", "/"+m[1]); w.Code != 200 {
			t.Errorf("%s: %d", m[1], w.Code)
		}
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="(https?:)?//[^"]*"`).FindAllString(page, -1) {
		if strings.HasPrefix(m, "src") {
			t.Errorf("the page loads %s", m)
		}
	}
}
