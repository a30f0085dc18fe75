package web

import (
	"embed"
	"maps"
	"net/http"
)

//go:embed static/dashboard
var dashboardFiles embed.FS

// dashboardHeaders let the page connect to the server that it came from, and nowhere else.
var dashboardHeaders = headers("'self'")

// Dashboard serves the dashboard page at "/dashboard/" and its files below, among them those that it shares with the playground. The page holds no
// secret: it asks for an API key, which the tab keeps, and shows it with what it asks for.
func Dashboard() http.Handler {
	const prefix = "/dashboard/"
	pages := loadPages(dashboardFiles, "static/dashboard", prefix)
	pages[prefix] = pages[prefix+"index.html"]
	delete(pages, prefix+"index.html")
	shared := loadPages(playgroundFiles, "static/playground", prefix)
	maps.DeleteFunc(shared, func(path string, _ page) bool {
		return path != prefix+"playground.css" && path != prefix+"theme.js" && path != prefix+"favicon.svg"
	})
	maps.Copy(pages, shared)
	return serve(pages, dashboardHeaders)
}
