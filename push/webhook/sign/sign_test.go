package sign

import (
	"errors"
	"strings"
	"testing"
	"time"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

func TestVerify(t *testing.T) {
	at := time.Unix(1_767_225_600, 0)
	body := []byte(`{"client":"a"}`)
	good := Sign(secret, body, at)
	// printf '1767225600.{"client":"a"}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
	if want := "t=1767225600,v1=067b5b1956bf0c5c2a105d34a6d6798fdceec790c4ee584ef06138313c226e24"; good != want {
		t.Errorf("signed %s, want %s", good, want)
	}
	other := Sign([]byte(strings.Repeat("x", 32)), body, at)
	_, otherV1, _ := strings.Cut(other, ",")
	for _, tt := range []struct {
		name, value, body string
		now               time.Time
		want              error
	}{
		{"right", good, string(body), at, nil},
		{"a little later", good, string(body), at.Add(time.Minute), nil},
		{"a little earlier", good, string(body), at.Add(-time.Minute), nil},
		{"much later", good, string(body), at.Add(time.Hour), ErrTooOld},
		{"much earlier", good, string(body), at.Add(-time.Hour), ErrTooOld},
		{"another body", good, `{"client":"b"}`, at, ErrMismatch},
		{"another secret", other, string(body), at, ErrMismatch},
		{"two secrets", good + "," + otherV1, string(body), at, nil},
		{"two secrets, the other first", strings.Replace(good, ",", ","+otherV1+",", 1), string(body), at, nil},
		{"another time", strings.Replace(good, "t=1", "t=2", 1), string(body), at, ErrMismatch},
		{"nothing", "", string(body), at, ErrMalformed},
		{"no time", otherV1, string(body), at, ErrMalformed},
		{"no signature", "t=1", string(body), at, ErrMalformed},
		{"short", "t=1,v1=00", string(body), at, ErrMalformed},
		{"no hexadecimal", "t=1,v1=" + strings.Repeat("x", 64), string(body), at, ErrMalformed},
		{"an unknown version beside it", good + ",v2=x", string(body), at, nil},
	} {
		if err := Verify(secret, tt.value, []byte(tt.body), tt.now, 5*time.Minute); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if err := Verify(secret, good, body, at.Add(1000*time.Hour), 0); err != nil {
		t.Errorf("without a tolerance: %v", err)
	}
	if CheckSecret(secret[:31]) == nil || CheckSecret(secret) != nil {
		t.Error("secrets have 32 bytes at least")
	}
}
