package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// keyServer is a JWKS server whose behaviour can change.
type keyServer struct {
	*httptest.Server
	requests atomic.Int64
	answer   atomic.Pointer[http.HandlerFunc]
}

func newKeyServer(t *testing.T, answer http.HandlerFunc) *keyServer {
	k := new(keyServer)
	k.answer.Store(&answer)
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.requests.Add(1)
		(*k.answer.Load())(w, r)
	}))
	t.Cleanup(k.Close)
	return k
}

func (k *keyServer) now(answer http.HandlerFunc) { k.answer.Store(&answer) }

func says(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }
}

func verify(v *Verifier, token string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := v.Verify(ctx, token)
	return err
}

// Keys are fetched, and again when a token has a kid that is not known.
func TestRotation(t *testing.T) {
	k := newKeyServer(t, says(set(rsaKey)))
	v := newVerifier(t, Config{Keys: Keys{JWKSURL: k.URL}, JWKS: JWKS{MinInterval: time.Millisecond}})
	if err := verify(v, sign(t, jwt.SigningMethodRS256, rsaKey, "k0", ann)); err != nil { // it waits for the first fetch
		t.Fatal(err)
	}
	k.now(says(set(rsaKey, ec256)))
	token := sign(t, jwt.SigningMethodES256, ec256, "k1", ann)
	eventually(t, "the new key is good", func() bool { return verify(v, token) == nil })
	if err := verify(v, sign(t, jwt.SigningMethodRS256, rsaKey, "k0", ann)); err != nil {
		t.Error(err)
	}
	k.now(says(set(otherRSA)))
	unknown := sign(t, jwt.SigningMethodES256, ec256, "k9", ann)
	eventually(t, "a kid that does not exist is refused for good", func() bool { return errors.Is(verify(v, unknown), ErrToken) })
	if err := verify(v, sign(t, jwt.SigningMethodRS256, rsaKey, "k0", ann)); !errors.Is(err, ErrToken) {
		t.Errorf("a key that is not in the set any more: %v", err)
	}
}

// noted is what a log has. Its methods may be called by any goroutine.
type noted struct {
	mu   sync.Mutex
	text strings.Builder
}

func (n *noted) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(b)
}

func (n *noted) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

// What lets millpond in to the key server is not logged.
func TestSecretsOfURLsAreNotLogged(t *testing.T) {
	k := newKeyServer(t, says(set(rsaKey)))
	k.Close()
	log := new(noted)
	address := strings.Replace(k.URL, "http://", "http://me:hush@", 1) + "/keys?key=hush"
	v, err := New(Config{Keys: Keys{JWKSURL: address}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is logged", func() bool { return v.Stats().FetchFailed > 0 })
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if s := log.String(); strings.Contains(s, "hush") || !strings.Contains(s, "/keys") {
		t.Error(s)
	}
}

// Keys may come just after a token was looked at: it is looked at again, whether or not another fetch may begin.
func TestKeysThatComeMeanwhile(t *testing.T) {
	k := newKeyServer(t, says(set(rsaKey)))
	v := newVerifier(t, Config{Keys: Keys{JWKSURL: k.URL}, JWKS: JWKS{MinInterval: time.Hour}})
	before := new(ring)
	r := v.connection.remote
	eventually(t, "keys", func() bool { return v.Stats().Fetches == 1 })
	if last, err := r.await(t.Context(), before); last || err != nil {
		t.Errorf("after keys came: last %v, %v; want it looked at again", last, err)
	}
	if last, err := r.await(t.Context(), r.keys.Load()); last || !errors.Is(err, refusedUnavailable) {
		t.Errorf("with the keys that are: last %v, %v; want that it is to come back later", last, err)
	}
}

// However many tokens with kids that nobody knows come: the server is asked once, and those with known keys never wait.
func TestFloodOfKeyIDs(t *testing.T) {
	k := newKeyServer(t, says(set(rsaKey)))
	v := newVerifier(t, Config{Keys: Keys{JWKSURL: k.URL}, JWKS: JWKS{MinInterval: time.Hour}})
	known := sign(t, jwt.SigningMethodRS256, rsaKey, "k0", ann)
	if err := verify(v, known); err != nil {
		t.Fatal(err)
	}
	var clients sync.WaitGroup
	for i := range 20 {
		clients.Go(func() {
			for j := range 50 {
				if err := verify(v, sign(t, jwt.SigningMethodES256, ec256, fmt.Sprint(i, j), ann)); !errors.Is(err, ErrUnavailable) {
					t.Error(err)
				}
			}
			if err := verify(v, known); err != nil {
				t.Error(err)
			}
		})
	}
	clients.Wait()
	if n := k.requests.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	if st := v.Stats(); st.TurnedAway != 1000 || st.Fetches != 1 {
		t.Errorf("%+v", st)
	}
}

// A server that does not answer holds up no more than so many clients, and those no longer than the timeout.
func TestHangingServer(t *testing.T) {
	release := make(chan struct{})
	k := newKeyServer(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	v := newVerifier(t, Config{Keys: Keys{Secret: secret, JWKSURL: k.URL}, JWKS: JWKS{MaxWaiting: 3, Timeout: time.Hour}})
	waiting, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	token := sign(t, jwt.SigningMethodRS256, rsaKey, "k0", ann)
	for range 3 {
		clients.Go(func() {
			if _, err := v.Verify(waiting, token); !errors.Is(err, ErrUnavailable) {
				t.Error(err)
			}
		})
	}
	eventually(t, "three wait", func() bool {
		r := v.connection.remote
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.waiting == 3
	})
	patient, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := v.Verify(patient, token); !errors.Is(err, ErrUnavailable) || patient.Err() != nil {
		t.Errorf("the fourth waited too: %v", err)
	}
	redirect := httptest.NewRequest(http.MethodGet, "http://example.com/keys", nil)
	if err := v.connection.remote.client.CheckRedirect(redirect, nil); err == nil {
		t.Error("a redirection may lead to http")
	}
	if err := verify(v, sign(t, jwt.SigningMethodHS256, secret, "", ann)); err != nil {
		t.Error(err)
	}
	stop()
	clients.Wait()
	fast := newVerifier(t, Config{Keys: Keys{JWKSURL: k.URL}, JWKS: JWKS{Timeout: 10 * time.Millisecond}})
	if err := verify(fast, token); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if st := fast.Stats(); st.FetchFailed == 0 || !st.LatestFetch.IsZero() {
		t.Errorf("%+v", st)
	}
}

// Whatever a server says or does not say: the keys that are known stay.
func TestLyingServer(t *testing.T) {
	k := newKeyServer(t, says(set(rsaKey)))
	v := newVerifier(t, Config{Keys: Keys{JWKSURL: k.URL}, JWKS: JWKS{MinInterval: time.Millisecond, Refresh: time.Millisecond, MaxBytes: 4096, Timeout: time.Second}})
	token := sign(t, jwt.SigningMethodRS256, rsaKey, "k0", ann)
	if err := verify(v, token); err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]http.HandlerFunc{
		"down":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"html":   says([]byte("<html>")),
		"empty":  says([]byte(`{"keys":[]}`)),
		"null":   says([]byte(`null`)),
		"large":  says([]byte(strings.Repeat(" ", 5000))),
		"secret": says([]byte(`{"keys":[{"kty":"oct","kid":"k0","k":"AAAA"}]}`)),
		"abroad": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		},
		"in turns": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) },
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		before := v.Stats().FetchFailed
		k.now(answer)
		eventually(t, name+" is noticed", func() bool { return v.Stats().FetchFailed > before+1 })
		if err := verify(v, token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	k.now(says(set(otherRSA)))
	eventually(t, "it comes back", func() bool { return verify(v, token) != nil })
}
