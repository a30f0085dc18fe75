package web

import (
	"embed"
	"net/http"
)

//go:embed static/playground
var playgroundFiles embed.FS

// playgroundHeaders let the page connect where its reader tells it to, as a WebSocket client must.
var playgroundHeaders = headers("'self' ws: wss:")

// Playground serves the playground page at "/" and its files under "/playground/".
// Any other path is a 404, any method but GET and HEAD a 405 (RFC 9110 §15.5.6).
//
// The page opens ws://HOST/echo and ws://HOST/push, where HOST is the host it came from.
// It holds no secret, but it invites: mount it where strangers may see it only on purpose.
func Playground() http.Handler {
	pages := loadPages(playgroundFiles, "static/playground", "/playground/")
	pages["/"] = pages["/playground/index.html"]
	delete(pages, "/playground/index.html")

	return serve(pages, playgroundHeaders)
}
