package handshake

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

var faults = []*Fault{
	ErrBadRequestLine, ErrURITooLong, ErrHTTPVersion, ErrMethod, ErrBadHeader, ErrHeaderTooLarge, ErrHeaderTimeout,
	ErrDuplicateHeader, ErrBody, ErrBadHost, ErrUpgradeMissing, ErrBadUpgrade, ErrBadConnection, ErrVersion,
	ErrVersionMissing, ErrBadKey, ErrBadSubprotocol, ErrBadExtensions, ErrPath, ErrOrigin, ErrInternal,
	ErrOverloaded, ErrShuttingDown,
}

func TestFaultsHaveWellFormedResponses(t *testing.T) {
	label := regexp.MustCompile("^[a-z_]+$")
	for _, f := range faults {
		t.Run(f.Reason, func(t *testing.T) {
			checkResponse(t, valid, f.AppendResponse(nil), Result{}, f)
			if !label.MatchString(string(f.Kind)) {
				t.Errorf("kind %q", f.Kind)
			}
			if got := f.Error(); !strings.HasPrefix(got, "handshake: ") || !strings.HasSuffix(got, " "+f.Reason) {
				t.Error(got)
			}
		})
	}
	for _, f := range []*Fault{ErrOverloaded, ErrShuttingDown} {
		if f.Header[0].Name != "Retry-After" || f.Header[0].Value == "" {
			t.Errorf("%v does not say when to come back", f)
		}
	}
}

func TestAppendResponse(t *testing.T) {
	f := &Fault{Status: 401, Reason: "no token", Header: []Field{{"WWW-Authenticate", "Bearer"}}}
	got := regexp.MustCompile(`Date: [^\r]+`).ReplaceAllString(string(f.AppendResponse([]byte("x"))), "Date: D")
	want := "xHTTP/1.1 401 Unauthorized\r\nDate: D\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n" +
		"Content-Length: 9\r\nWWW-Authenticate: Bearer\r\nConnection: close\r\n\r\nno token\n"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A Fault may be made of what a client sent; it must stay one response.
func TestAppendResponseKeepsItsForm(t *testing.T) {
	for _, c := range []struct {
		name   string
		f      *Fault
		status int
		body   string
		fields int // besides the four of every response
	}{
		{"no reason", &Fault{Status: 403}, 403, "Forbidden\n", 0},
		{"no status", &Fault{}, 500, "Internal Server Error\n", 0},
		{"success is no fault", &Fault{Status: 200, Reason: "r"}, 500, "r\n", 0},
		{"switching is no fault", &Fault{Status: 101, Reason: "r"}, 500, "r\n", 0},
		{"not modified has no body", &Fault{Status: 304, Reason: "r"}, 500, "r\n", 0},
		{"four digits", &Fault{Status: 4040, Reason: "r"}, 500, "r\n", 0},
		{"status without a phrase", &Fault{Status: 499, Reason: "r"}, 499, "r\n", 0},
		{"header in the reason", &Fault{Status: 400, Reason: "a\r\nSet-Cookie: b\r\n\r\nc"}, 400, "a\r\nSet-Cookie: b\r\n\r\nc\n", 0},
		{"header in a value", &Fault{Status: 400, Reason: "r", Header: []Field{{"A", "b\r\nSet-Cookie: c"}}}, 400, "r\n", 0},
		{"header in a name", &Fault{Status: 400, Reason: "r", Header: []Field{{"A: b\r\nSet-Cookie", "c"}}}, 400, "r\n", 0},
		{"empty name", &Fault{Status: 400, Reason: "r", Header: []Field{{"", "c"}}}, 400, "r\n", 0},
		{"its own fields", &Fault{Status: 400, Reason: "r", Header: []Field{
			{"content-length", "0"},
			{"Transfer-Encoding", "chunked"},
			{"connection", "keep-alive"},
			{"DATE", "x"},
			{"Content-Type", "text/html"},
			{"X-Content-Type-Options", ""},
		}}, 400, "r\n", 0},
		{"good fields", &Fault{Status: 400, Reason: "r", Header: []Field{{"A", "b"}, {"C", ""}}}, 400, "r\n", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			br := bufio.NewReader(bytes.NewReader(c.f.AppendResponse(nil)))
			r, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r.Body)
			if err != nil || string(body) != c.body || br.Buffered() > 0 {
				t.Errorf("body %q, %v", body, err)
			}
			// net/http takes Connection out of the header.
			if r.StatusCode != c.status || !r.Close || len(r.Header) != 4+c.fields {
				t.Errorf("%s %v", r.Status, r.Header)
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	if f := TooLarge([]byte("GET /aaaaaaaa")); f != ErrURITooLong {
		t.Error(f)
	}
	if f := TooLarge([]byte("GET / HTTP/1.1\r\nCookie: aaaaa")); f != ErrHeaderTooLarge {
		t.Error(f)
	}
}
