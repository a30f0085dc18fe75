// Package sign signs what the server sends to a backend, and checks such a signature: the header
//
//	X-Millpond-Signature: t=1767225600,v1=5257a869…
//
// has the time of signing in seconds since 1970 and the HMAC-SHA256, in hexadecimal, of "t.body" with a secret that
// both sides know. Who has no secret cannot make one, and who has seen one cannot use it for another body, or much
// later.
package sign

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Header is the name of the header.
const Header = "X-Millpond-Signature"

// MinSecretBytes is the least that a secret may have: as much as the hash.
const MinSecretBytes = 32

// The errors of Verify. None of them holds anything of the secret or of the right signature.
var (
	ErrMalformed = errors.New("the signature is not t=…,v1=…")
	ErrMismatch  = errors.New("the signature is another's")
	ErrTooOld    = errors.New("the signature is from another time")
)

// CheckSecret reports a secret that is too short to be one.
func CheckSecret(secret []byte) error {
	if len(secret) < MinSecretBytes {
		return fmt.Errorf("the secret has %d bytes, at least %d are needed", len(secret), MinSecretBytes)
	}
	return nil
}

// Sign returns the header's value for a body that is sent at a time.
func Sign(secret, body []byte, at time.Time) string {
	t := strconv.FormatInt(at.Unix(), 10)
	return "t=" + t + ",v1=" + hex.EncodeToString(sum(secret, t, body))
}

// Verify checks the header's value of a body that came at a time. The time of signing may differ from it by tolerance;
// zero or less is any. The value may have several v1, of which one must be right: so a secret can be changed without a
// gap.
func Verify(secret []byte, value string, body []byte, now time.Time, tolerance time.Duration) error {
	var t string
	var signatures [][]byte
	for part := range strings.SplitSeq(value, ",") {
		switch name, text, _ := strings.Cut(part, "="); name {
		case "t":
			t = text
		case "v1":
			signature, err := hex.DecodeString(text)
			if err != nil || len(signature) != sha256.Size {
				return ErrMalformed
			}
			signatures = append(signatures, signature)
		}
	}
	at, err := strconv.ParseInt(t, 10, 64)
	if err != nil || len(signatures) == 0 {
		return ErrMalformed
	}
	want, ok := sum(secret, t, body), false
	for _, signature := range signatures {
		ok = hmac.Equal(want, signature) || ok
	}
	if !ok {
		return ErrMismatch
	}
	if tolerance > 0 && now.Sub(time.Unix(at, 0)).Abs() > tolerance {
		return ErrTooOld
	}
	return nil
}

func sum(secret []byte, t string, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(t))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return mac.Sum(nil)
}
