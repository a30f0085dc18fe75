package codec

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"
)

func TestFrame(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 100000} {
		for _, op := range []Opcode{OpText, OpBinary} {
			payload := bytes.Repeat([]byte("p"), n)
			want := unmaskedFrame(fin|byte(op), string(payload))
			f := NewFrame(op, payload)
			if !bytes.Equal(f.Bytes(), want) || !bytes.Equal(AppendFrame(nil, op, payload), want) {
				t.Errorf("%v(%d): % .20x, want % .20x", op, n, f.Bytes(), want)
			}
			if f.Opcode() != op || f.Len() != n || !bytes.Equal(f.Payload(), payload) {
				t.Errorf("%v(%d): %v, %d", op, n, f.Opcode(), f.Len())
			}
			if cap(f.Bytes()) != len(f.Bytes()) {
				t.Errorf("%v(%d): room for %d", op, n, cap(f.Bytes()))
			}
		}
	}
}

func TestPingFrame(t *testing.T) {
	if !bytes.Equal(Ping.Bytes(), []byte{0x89, 0x00}) {
		t.Errorf("% x", Ping.Bytes())
	}
}

func TestNewFrameCopies(t *testing.T) {
	payload := []byte("payload")
	f := NewFrame(OpText, payload)
	clear(payload)
	if string(f.Payload()) != "payload" {
		t.Errorf("payload became %q", f.Payload())
	}
}

func TestAppendHeader(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 1<<63 - 1} {
		for _, final := range []bool{false, true} {
			var want bytes.Buffer
			want.WriteString("before")
			if err := ws.WriteHeader(&want, ws.Header{Fin: final, OpCode: ws.OpBinary, Length: int64(n)}); err != nil {
				t.Fatal(err)
			}
			got := AppendHeader([]byte("before"), OpBinary, final, n)
			if !bytes.Equal(got, want.Bytes()) {
				t.Errorf("%d: % x, want % x", n, got, want.Bytes())
			}
			if len(got)-6 != headerSpace(n) {
				t.Errorf("%d: headerSpace is %d", n, headerSpace(n))
			}
		}
	}
}

func TestAppendMaskedFrame(t *testing.T) {
	for _, n := range []int{0, 1, 5, 125, 126, 65535, 65536} {
		s := strings.Repeat("Mask", n/4+1)[:n]
		for _, first := range []byte{0x0, 0x1, 0x2, fin, fin | 0x1, fin | 0x2} {
			payload := []byte(s)
			got := AppendMaskedFrame([]byte("before"), Opcode(first&0xF), first >= fin, payload, testMask)
			if want := append([]byte("before"), frame(first, s)...); !bytes.Equal(got, want) {
				t.Errorf("%x(%d): % .20x, want % .20x", first, n, got, want)
			}
			if string(payload) != s {
				t.Errorf("%x(%d): the payload was changed", first, n)
			}
		}
	}
}

// TestSerialiser sends the messages of the table of cases back to a decoder, both ways.
func TestSerialiser(t *testing.T) {
	for _, c := range cases {
		var up, down []byte
		for _, m := range c.want {
			up = AppendMaskedFrame(up, m.Opcode, true, m.Payload, testMask)
			down = AppendFrame(down, m.Opcode, m.Payload)
		}
		want := outcome{messages: c.want}
		if n := len(c.want); n > 0 && c.want[n-1].Opcode == OpClose {
			want.fault = c.fault
		}
		o := Options{MaxMessageBytes: 1 << 20}
		if got := decode(t, &o, up); !got.equal(want) {
			t.Errorf("%s: up %v, want %v", c.name, got, want)
		}
		o.Client = true
		if got := decode(t, &o, down); !got.equal(want) {
			t.Errorf("%s: down %v, want %v", c.name, got, want)
		}
	}
}

// TestFramesThatNobodyMaySend: building one is a bug of ours, and panics.
func TestFramesThatNobodyMaySend(t *testing.T) {
	long := make([]byte, 126)
	for name, build := range map[string]func(){
		"long ping":               func() { NewFrame(OpPing, long) },
		"long pong":               func() { AppendFrame(nil, OpPong, long) },
		"long masked close":       func() { AppendMaskedFrame(nil, OpClose, true, long, testMask) },
		"fragmented ping":         func() { AppendHeader(nil, OpPing, false, 0) },
		"reserved opcode":         func() { AppendHeader(nil, 3, true, 0) },
		"reserved control opcode": func() { AppendHeader(nil, 11, true, 0) },
		"opcode of five bits":     func() { AppendHeader(nil, 0x11, true, 0) },
		"negative length":         func() { AppendHeader(nil, OpText, true, -1) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("built")
				}
			}()
			build()
		})
	}
}

// TestFrameIsShared reads one frame from many goroutines, for the race detector.
func TestFrameIsShared(t *testing.T) {
	f := NewFrame(OpText, []byte("shared"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if string(f.Payload()) != "shared" || f.Opcode() != OpText || f.Len() != 6 || len(f.Bytes()) != 8 {
					t.Error("frame changed")
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestOpcode(t *testing.T) {
	for op := range Opcode(16) {
		if op.IsControl() != (op >= 8) {
			t.Errorf("%v: IsControl %v", op, op.IsControl())
		}
		if (op.String() == "reserved") == op.defined() {
			t.Errorf("%d: %v, defined %v", op, op, op.defined())
		}
	}
}
