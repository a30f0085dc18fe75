package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What is posted arrives, with its credentials, and the answer comes back, over connections that are used again.
func TestAPIConns(t *testing.T) {
	var conns atomic.Int64
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		switch r.URL.Path {
		case "/a b/api/echo":
			_, _ = io.WriteString(w, strings.Join([]string{r.Method, r.Host, r.Header.Get("X-API-Key"), user, password, string(body)}, " "))
		case "/a b/api/long":
			_, _ = w.Write(make([]byte, 200_000)) // chunked
		case "/a b/api/last":
			w.Header().Set("Connection", "close")
		case "/a b/api/never":
			<-r.Context().Done()
		default:
			http.Error(w, "no such method", http.StatusNotFound)
		}
	})
	server := httptest.NewUnstartedServer(handler)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	a, err := newAPIConns(Target{API: "http://me:word@" + host + "/a%20b/api/", APIKey: "key"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	post := func(method, body string) (string, error) {
		b, err := a.post(t.Context(), method, []byte(body))
		return string(b), err
	}
	for range 3 {
		if got, err := post("echo", "{}"); err != nil || got != "POST "+host+" key me word {}" {
			t.Errorf("%q, %v", got, err)
		}
		if got, err := post("long", ""); err != nil || len(got) != 200_000 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections, one after another", n)
	}
	if _, err := post("last", ""); err != nil {
		t.Error(err)
	}
	_, err = post("none", "")
	if err == nil || !strings.Contains(err.Error(), "/api/none: status 404: no such method") || strings.Contains(err.Error(), "word@") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := a.post(ctx, "never", nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	a.timeout = 20 * time.Millisecond
	if _, err := post("never", ""); err == nil {
		t.Error("it waits for ever")
	}
	a.timeout = 30 * time.Second
	var under sync.WaitGroup
	for range 20 {
		under.Go(func() {
			if _, err := post("echo", ""); err != nil {
				t.Error(err)
			}
		})
	}
	under.Wait()

	for _, url := range []string{"ws://127.0.0.1/", "127.0.0.1:80", "http:///api/", "http://127.0.0.1:x/"} {
		if _, err := newAPIConns(Target{API: url}, time.Second); err == nil {
			t.Errorf("%s is taken", url)
		}
	}
}

// The API may be behind TLS; one that nobody vouches for gets nothing.
func TestAPIConnsOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	a, err := newAPIConns(Target{API: server.URL + "/api/"}, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	if _, err := a.post(t.Context(), "publish", nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
	a.tls.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	if _, err := a.post(t.Context(), "publish", nil); err != nil {
		t.Error(err)
	}
}
