package auth

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func openRevocations(t *testing.T, dir string, most int) *Revocations {
	t.Helper()
	r, err := OpenRevocations(dir, most)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func at(seconds int64) time.Time { return time.Unix(seconds, 0) }

// What is revoked, before and after the process has ended.
func TestRevocations(t *testing.T) {
	dir := t.TempDir()
	r := openRevocations(t, dir, 0)
	hour := time.Now().Add(time.Hour)
	for _, err := range []error{
		r.Add(RevokedToken("bad", hour)), r.Add(RevokedToken("over", time.Now().Add(-time.Second))), r.Add(RevokedUser("ann", at(1000), time.Time{})),
		r.Add(RevokedUser("ann", at(500), hour)), r.Add(RevokedAll(at(100), hour)), r.Add(RevokedUser("bob", at(1000), time.Now().Add(-time.Second))),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(r *Revocations) {
		t.Helper()
		for _, tt := range []struct {
			user    string
			mark    Mark
			revoked bool
		}{
			{"x", Mark{"bad", at(2000)}, true},
			{"x", Mark{"good", at(2000)}, false},
			{"x", Mark{"over", at(2000)}, false},
			{"x", Mark{"", at(2000)}, false},
			{"ann", Mark{"", at(999)}, true},
			{"ann", Mark{"", at(1000)}, false},
			{"bob", Mark{"", at(999)}, false},
			{"bob", Mark{"", at(99)}, true},
			{"", Mark{"", at(99)}, true},
			{"bob", Mark{"", at(100)}, false},
			{"bob", Mark{"", at(0)}, true},
		} {
			if got := r.Revoked(tt.user, tt.mark); got != tt.revoked {
				t.Errorf("%q %+v: %t", tt.user, tt.mark, got)
			}
		}
	}
	check(r)
	if r.Sweep(); r.Len() != 3 || !r.Lasting() {
		t.Errorf("%d are kept", r.Len())
	}
	check(r)
	check(openRevocations(t, dir, 0)) // as after kill -9: nothing was closed
	info, err := os.Stat(filepath.Join(dir, revocationsFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	var none *Revocations
	if none.Revoked("ann", Mark{}) || none.Len() != 0 || none.Lasting() || openRevocations(t, "", 0).Lasting() {
		t.Error("nothing lasts without a file")
	}
}

// A verifier refuses what is revoked.
func TestVerifierRefusesRevoked(t *testing.T) {
	r := openRevocations(t, "", 0)
	v := newVerifier(t, Config{Keys: Keys{Secret: secret}, Revocations: r})
	token := sign(t, jwt.SigningMethodHS256, secret, "", jwt.MapClaims{"sub": "ann", "jti": "id", "iat": 1000})
	channel := sign(t, jwt.SigningMethodHS256, secret, "", jwt.MapClaims{"sub": "ann", "jti": "id2", "iat": 1000, "channel": "c"})
	if verify(v, token) != nil {
		t.Error("refused too early")
	}
	_ = r.Add(RevokedToken("id", time.Time{}))
	if err := verify(v, token); err == nil || err.Error() != "invalid token: revoked" {
		t.Error(err)
	}
	if _, err := v.VerifySubscription(t.Context(), channel); err != nil {
		t.Error(err)
	}
	_ = r.Add(RevokedUser("ann", at(1001), time.Time{}))
	if _, err := v.VerifySubscription(t.Context(), channel); err == nil {
		t.Error("a channel's token is not revoked with its user's")
	}
}

// A crash in the middle of a write costs the line that was not finished; any other damage is an error, not a token that
// is good again.
func TestDamagedRevocations(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, revocationsFile)
	put(t, path, []byte("{\"token\":\"a\"}\n{\"user\":\"\",\"before\":7}\n{\"token\":\"b"))
	r := openRevocations(t, dir, 0)
	if r.Len() != 2 || !r.Revoked("x", Mark{"a", at(9)}) || !r.Revoked("", Mark{"", at(6)}) || r.Revoked("x", Mark{"", at(6)}) {
		t.Errorf("%+v %+v", r.tokens, r.users)
	}
	if err := r.Add(RevokedToken("c", time.Time{})); err != nil {
		t.Fatal(err)
	}
	if r = openRevocations(t, dir, 0); r.Len() != 3 {
		t.Errorf("%+v", r.tokens)
	}
	put(t, path, []byte("{\"token\":\"a\"}\nnonsense\n{\"token\":\"b\"}\n"))
	if _, err := OpenRevocations(dir, 0); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
}

// They are bounded; the file too, however often the same is revoked.
func TestRevocationsAreBounded(t *testing.T) {
	dir := t.TempDir()
	r := openRevocations(t, dir, 2)
	soon := time.Now().Add(-time.Second)
	for _, err := range []error{r.Add(RevokedToken("over", soon)), r.Add(RevokedToken("a", time.Time{})), r.Add(RevokedToken("b", time.Time{})), r.Add(RevokedToken("b", time.Time{}))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Add(RevokedUser("ann", at(1), time.Time{})); !errors.Is(err, ErrTooManyRevocations) {
		t.Error(err)
	}
	if err := r.Add(RevokedAll(at(1), time.Time{})); !errors.Is(err, ErrTooManyRevocations) {
		t.Error(err)
	}
	for range 1200 {
		if err := r.Add(RevokedToken("a", time.Time{})); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, revocationsFile)); err != nil || strings.Count(string(b), "\n") > 1100 {
		t.Errorf("%d lines, %v", strings.Count(string(b), "\n"), err)
	}
	if r := openRevocations(t, dir, 2); r.Len() != 2 {
		t.Errorf("%d are kept", r.Len())
	}
}

// What cannot be written is an error, though it holds; and the file is whole again afterwards.
func TestRevocationsThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	r := openRevocations(t, dir, 0)
	_ = r.file.Close()
	if err := r.Add(RevokedToken("a", time.Time{})); err == nil || !r.Revoked("", Mark{ID: "a"}) {
		t.Error(err)
	}
	if err := r.Add(RevokedToken("b", time.Time{})); err != nil {
		t.Error(err)
	}
	if r := openRevocations(t, dir, 0); r.Len() != 2 {
		t.Errorf("%+v", r.tokens)
	}
	if _, err := OpenRevocations(filepath.Join(dir, revocationsFile), 0); err == nil {
		t.Error("a file was taken for a directory")
	}
}

// A token that says that it was issued long ago is good as long as nothing is revoked.
func TestNothingRevoked(t *testing.T) {
	r := openRevocations(t, "", 0)
	if r.Revoked("ann", Mark{"id", at(-1)}) || r.Revoked("ann", Mark{}) {
		t.Error("refused")
	}
}

// Nobody's token waits for the disk, and the revoked one is refused meanwhile.
func TestRevocationsOnASlowDisk(t *testing.T) {
	r := openRevocations(t, t.TempDir(), 0)
	disk, file, err := os.Pipe() // that nobody reads from for now
	if err != nil {
		t.Fatal(err)
	}
	_ = r.file.Close()
	r.file = file
	_ = file.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := file.Write(make([]byte, 8<<20)); !errors.Is(err, os.ErrDeadlineExceeded) { // more than a pipe holds
		t.Fatal(err)
	}
	_ = file.SetWriteDeadline(time.Time{})
	var writing sync.WaitGroup
	writing.Go(func() { _ = r.Add(RevokedToken("a", time.Time{})) }) // a pipe cannot be synced
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for !r.Revoked("ann", Mark{"a", at(1)}) {
			runtime.Gosched()
		}
		r.Sweep()
	}()
	select {
	case <-asked:
	case <-time.After(10 * time.Second):
		t.Error("a token waits for the disk")
	}
	_ = disk.Close() // fails the write
	writing.Wait()
	<-asked
}

// All methods at the same time.
func TestRevocationsConcurrently(t *testing.T) {
	r := openRevocations(t, t.TempDir(), 50)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 50 {
				_ = r.Add(RevokedToken(string(rune('a'+i))+string(rune('0'+j)), time.Now().Add(time.Millisecond)))
				r.Revoked("ann", Mark{ID: "a0"})
				r.Sweep()
			}
		})
	}
	all.Wait()
}

// BenchmarkRevoked asks among 100,000 revocations.
func BenchmarkRevoked(b *testing.B) {
	r, _ := OpenRevocations("", 0)
	for i := range 100_000 {
		_ = r.Add(RevokedToken(time.Duration(i).String(), time.Time{}))
	}
	m := Mark{"id", at(2000)}
	b.ReportAllocs()
	for b.Loop() {
		r.Revoked("ann", m)
	}
}
