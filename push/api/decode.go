package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/millpond/millpond/push/hub"
)

// decodeOptional is decode for requests that may as well say nothing.
func decodeOptional(body []byte, v any) error {
	if len(body) == 0 {
		return nil
	}
	return decode(body, v)
}

// decode reads a request's body, one JSON object, into v, which keeps no part of it.
func decode(body []byte, v any) error {
	if !utf8.Valid(body) {
		return notUTF8()
	}
	if err := json.Unmarshal(body, v); err != nil {
		return named(notDecoded(err), body, err)
	}
	return nil
}

// named is rejected, or better which field of the body is not base64 if that is what err says: encoding/json does not.
func named(rejected error, body []byte, err error) error {
	var corrupt base64.CorruptInputError
	var fields map[string]json.RawMessage
	if !errors.As(err, &corrupt) || json.Unmarshal(body, &fields) != nil {
		return rejected
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		var b []byte
		if strings.HasPrefix(name, "b64") && errors.As(json.Unmarshal(fields[name], &b), &corrupt) {
			return &rejection{http.StatusBadRequest, wrong(name, "is not base64: %v", corrupt)}
		}
	}
	return rejected
}

func notUTF8() error {
	// RFC 8259 §8.1: JSON text MUST be encoded using UTF-8. And a text
	// frame that is not would cost every subscriber its connection.
	return reject(http.StatusBadRequest, hub.ErrBadRequest, "the body is not valid UTF-8")
}

// inEmbedded takes out of a path what stands for a struct of ours, not for a field of the request.
var inEmbedded = strings.NewReplacer("message.", "", "target.", "")

// notDecoded says what was wrong with a body that is not what the method takes.
func notDecoded(err error) error {
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return reject(http.StatusBadRequest, hub.ErrBadRequest, "the body is not JSON: %v at byte %d", syntax, syntax.Offset)
	case errors.As(err, &mismatch) && mismatch.Field != "":
		return &rejection{http.StatusBadRequest, wrong(inEmbedded.Replace(mismatch.Field), "has the wrong type: %.40s", mismatch.Value)}
	case errors.As(err, &mismatch):
		return reject(http.StatusBadRequest, hub.ErrBadRequest, "the body must be a JSON object, not %.40s", mismatch.Value)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return reject(http.StatusBadRequest, hub.ErrBadRequest, "the body ends in the middle of a value")
	}
	return reject(http.StatusBadRequest, hub.ErrBadRequest, "a field in base64 is not: %v", err)
}
