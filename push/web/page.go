package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"time"
)

// headers go with every answer, also with refusals; connect says where the page may connect to.
//
// The policy lets a page run its own files alone: no inline script or style, no
// frame around it, no form that leaves. no-cache makes browsers ask every time; the entity
// tag then makes that a 304, and a new binary never meets an old script.
func headers(connect string) map[string]string {
	return map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
			"connect-src " + connect + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
			"require-trusted-types-for 'script'",
		"X-Content-Type-Options": "nosniff",
		"Referrer-Policy":        "no-referrer",
		"Cache-Control":          "no-cache",
	}
}

// page is one embedded file, ready to be served.
type page struct {
	body        []byte
	contentType string
	etag        string
}

// serve answers with pages, by their paths. Any other path is a 404, any method but GET and HEAD a 405 (RFC 9110 §15.5.6).
func serve(pages map[string]page, headers map[string]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range headers {
			w.Header().Set(name, value)
		}
		p, found := pages[r.URL.Path]
		if !found {
			http.Error(w, "404 page not found", http.StatusNotFound)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			// RFC 9110 §15.5.6: the server MUST generate an Allow header in a 405.
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "405 method not allowed", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", p.contentType)
		w.Header().Set("ETag", p.etag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(p.body))
	})
}

// loadPages reads dir of files into a map keyed by prefix + file name. The files
// are compiled in, so one that can't be read is a broken build: it panics.
func loadPages(files embed.FS, dir, prefix string) map[string]page {
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		panic(fmt.Sprintf("web: embedded %s: %v", dir, err))
	}
	pages := make(map[string]page, len(entries))
	for _, entry := range entries {
		body, err := fs.ReadFile(files, path.Join(dir, entry.Name()))
		if err != nil {
			panic(fmt.Sprintf("web: embedded %s: %v", entry.Name(), err))
		}
		sum := sha256.Sum256(body)
		pages[prefix+entry.Name()] = page{
			body:        body,
			contentType: contentType(entry.Name()),
			etag:        `"` + hex.EncodeToString(sum[:8]) + `"`,
		}
	}
	return pages
}

// contentType names the type of a file. They are listed here because mime.TypeByExtension
// asks the host's tables first, and a host that calls .js text/plain would stop the page.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".txt":
		return "text/plain; charset=utf-8"
	default:
		panic("web: no content type for " + name)
	}
}
