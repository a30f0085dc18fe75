package api

import (
	_ "embed"
	"net/http"
)

// openAPI describes the API, as docs/openapi.json does: the tests hold it against the handlers.
//
//go:embed openapi.json
var openAPI []byte

// describeAPI answers with the description. It is no secret, and wants no key.
func describeAPI(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI)
}
