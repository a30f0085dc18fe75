package verify

import (
	"encoding/json"
	"errors"
	"testing"
)

// A message has the size that was asked for, is a JSON value, and says what it was made of.
func TestStampRoundTrip(t *testing.T) {
	for _, s := range []Stamp{
		{},
		{Publisher: 7, Channel: Sum("news"), Sequence: 1, Time: 1, Lag: 1},
		{Publisher: 1<<16 - 1, Channel: 1<<32 - 1, Sequence: maxSequence, Time: maxTime, Lag: maxLag},
	} {
		for _, size := range []int{0, MinBytes, MinBytes + 1, 64, 1000, 500_000} {
			b := s.Append([]byte("before"), size)[len("before"):]
			if len(b) != max(size, MinBytes) || !json.Valid(b) {
				t.Fatalf("%+v: %d bytes, want %d: %.100s", s, len(b), size, b)
			}
			if got, err := Parse(b); err != nil || got != s {
				t.Errorf("%+v, %v, want %+v", got, err, s)
			}
		}
	}
}

// A message that differs in any one bit, is cut, or has grown is a changed one.
func TestParseSeesEveryBit(t *testing.T) {
	whole := Stamp{Publisher: 1, Channel: Sum("news"), Sequence: 3, Time: 12345}.Append(nil, 100)
	for bit := range 8 * len(whole) {
		whole[bit/8] ^= 1 << (bit % 8)
		if s, err := Parse(whole); !errors.Is(err, ErrChanged) {
			t.Errorf("bit %d changed: %+v, %v", bit, s, err)
		}
		whole[bit/8] ^= 1 << (bit % 8)
	}
	for n := range whole {
		if _, err := Parse(whole[:n]); !errors.Is(err, ErrChanged) {
			t.Errorf("%d bytes of it: %v", n, err)
		}
	}
	for _, b := range [][]byte{append(whole, ' '), append(whole, whole...), []byte(`{"n":1}`), make([]byte, 100)} {
		if _, err := Parse(b); !errors.Is(err, ErrChanged) {
			t.Errorf("%.40q: %v", b, err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	message := Stamp{Publisher: 1, Channel: Sum("news"), Sequence: 3, Time: 12345}.Append(nil, 256)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(message); err != nil {
			b.Fatal(err)
		}
	}
}
