package codec

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

func TestCaseNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range cases {
		if seen[c.name] {
			t.Errorf("two cases %q", c.name)
		}
		seen[c.name] = true
		if (c.fault == 0) != (c.at == 0) {
			t.Errorf("case %q has fault %v at %d", c.name, c.fault, c.at)
		}
	}
}

// TestDecoder runs the table whole, split at each byte, byte by byte, and in odd reads.
func TestDecoder(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			want := outcome{messages: c.want, fault: c.fault, at: c.at}
			if got := decode(t, &c.o, c.wire); !got.equal(want) {
				t.Fatalf("whole:\n got %v\nwant %v", got, want)
			}
			for i := 1; i < len(c.wire) && len(c.wire) <= 600; i++ {
				if got := decode(t, &c.o, c.wire, i, len(c.wire)); !got.equal(want) {
					t.Fatalf("split at %d:\n got %v\nwant %v", i, got, want)
				}
			}
			for _, size := range []int{3, 7, 997} {
				if got := decode(t, &c.o, c.wire, size); !got.equal(want) {
					t.Fatalf("reads of %d:\n got %v\nwant %v", size, got, want)
				}
			}
			if got := decode(t, &c.o, c.wire, 1); !got.equal(want) || (c.fault != 0 && got.at != c.at) {
				t.Fatalf("byte by byte:\n got %v\nwant %v", got, want)
			}
		})
	}
}

// TestReference holds the naive twin to the table too, so that the fuzzers compare with something that is right.
func TestReference(t *testing.T) {
	for _, c := range cases {
		want := outcome{messages: c.want, fault: c.fault}
		if got := reference(c.o, c.wire); !got.equal(want) {
			t.Errorf("%s:\n got %v\nwant %v", c.name, got, want)
		}
		if c.at == 0 {
			continue
		}
		if got := reference(c.o, c.wire[:c.at]); got.fault != c.fault {
			t.Errorf("%s: after %d bytes %v", c.name, c.at, got)
		}
		if got := reference(c.o, c.wire[:c.at-1]); got.fault != 0 {
			t.Errorf("%s: after %d bytes already %v", c.name, c.at-1, got)
		}
	}
}

func TestDecoderSize(t *testing.T) {
	if n := unsafe.Sizeof(Decoder{}); n > 8 {
		t.Errorf("Decoder takes %d bytes of each connection, want 8", n)
	}
	if n := unsafe.Sizeof(partial{}); n > 208 {
		t.Errorf("partial takes %d bytes, want at most 208", n)
	}
}

// TestPayloadAliases shows that a frame that is there whole is not copied, and where it lies.
func TestPayloadAliases(t *testing.T) {
	for _, wire := range [][]byte{text("Hello"), bin(strings.Repeat("x", 300)), bin(strings.Repeat("x", 65536)), ping("p")} {
		var d Decoder
		b := bytes.Clone(wire)
		m, n, ok, err := d.Next(&Options{}, b)
		if !ok || err != nil || n != len(b) {
			t.Fatalf("Next: %d, %v, %v", n, ok, err)
		}
		if &m.Payload[0] != &b[len(b)-len(m.Payload)] {
			t.Errorf("%v(%d) was copied", m.Opcode, len(m.Payload))
		}
		if d.Buffered() != 0 {
			t.Errorf("%v(%d) holds %d bytes", m.Opcode, len(m.Payload), d.Buffered())
		}
	}
}

// TestControlBetweenFragmentsAliases: also while a message is unfinished, a whole ping is not copied.
func TestControlBetweenFragmentsAliases(t *testing.T) {
	var d Decoder
	defer d.Release()
	b := join(firstText("a"), ping("payload"))
	m, _, ok, err := d.Next(&Options{}, b)
	if !ok || err != nil || &m.Payload[0] != &b[len(b)-7] {
		t.Fatalf("ping was copied: %v %v %v", m, ok, err)
	}
	if !d.InProgress() {
		t.Error("the message was forgotten")
	}
}

// TestDeclaredLengthAllocatesNothing: the buffer follows what arrived, whatever was declared.
func TestDeclaredLengthAllocatesNothing(t *testing.T) {
	o := &Options{MaxMessageBytes: 1 << 30}
	var d Decoder
	defer d.Release()
	feed := func(b []byte) {
		if _, _, ok, err := d.Next(o, b); ok || err != nil {
			t.Fatalf("Next: %v, %v", ok, err)
		}
	}
	feed(header(fin|0x2, true, length64, 1<<30))
	base := int(unsafe.Sizeof(partial{}))
	if d.Buffered() != base {
		t.Fatalf("a header holds %d bytes, want %d", d.Buffered(), base)
	}
	arrived := 0
	for _, n := range []int{1, 1, 510, 1, 1000, 4096, 100000} {
		feed(make([]byte, n))
		arrived += n
		if held := d.Buffered() - base; held > max(2*arrived, 1<<minClass) || held < arrived {
			t.Errorf("%d bytes held after %d arrived", held, arrived)
		}
	}
}

// TestBufferIsBoundedByTheLimit fills messages to the limit, in one frame and in fragments.
func TestBufferIsBoundedByTheLimit(t *testing.T) {
	for _, limit := range []int{1, 512, 1000, 4096, 65536} {
		o := &Options{MaxMessageBytes: limit}
		s := strings.Repeat("x", limit)
		for _, wire := range [][]byte{bin(s), fragments(0x2, s, max(1, limit/7))} {
			var d Decoder
			for i := range wire[:len(wire)-1] {
				if _, _, ok, err := d.Next(o, wire[i:i+1]); ok || err != nil {
					t.Fatalf("Next at %d: %v, %v", i, ok, err)
				}
				if most := 1 << (class(limit) + minClass); d.Buffered()-int(unsafe.Sizeof(partial{})) > most {
					t.Fatalf("limit %d: %d bytes held", limit, d.Buffered())
				}
			}
			d.Release()
		}
	}
}

// TestEmptyFragmentsCostNoMemory sends 100,000 of them, 600 KB.
func TestEmptyFragmentsCostNoMemory(t *testing.T) {
	o := &Options{}
	var d Decoder
	defer d.Release()
	if _, _, _, err := d.Next(o, firstText("")); err != nil {
		t.Fatal(err)
	}
	flood := bytes.Repeat(more(""), 1000)
	for range 100 {
		if _, n, ok, err := d.Next(o, flood); ok || err != nil || n != len(flood) {
			t.Fatalf("Next: %d, %v, %v", n, ok, err)
		}
		if d.Buffered() != int(unsafe.Sizeof(partial{})) {
			t.Fatalf("%d bytes held", d.Buffered())
		}
	}
}

// TestIdleHoldsNothing: what a message took is given back by the call that finds nothing more.
func TestIdleHoldsNothing(t *testing.T) {
	o := &Options{}
	for _, wire := range [][]byte{
		text(strings.Repeat("x", 15000)), fragments(0x1, "fragmented", 3), ping("control"), text(""),
	} {
		var d Decoder
		half := len(wire) / 2
		if _, _, ok, err := d.Next(o, wire[:half]); ok || err != nil {
			t.Fatalf("first half: %v, %v", ok, err)
		}
		if !d.InProgress() || d.Buffered() == 0 {
			t.Error("an unfinished frame is not in progress")
		}
		if _, _, ok, err := d.Next(o, wire[half:]); !ok || err != nil {
			t.Fatalf("second half: %v, %v", ok, err)
		}
		if d.InProgress() {
			t.Error("a finished message is in progress")
		}
		if _, n, ok, err := d.Next(o, nil); n != 0 || ok || err != nil {
			t.Fatalf("empty read: %d, %v, %v", n, ok, err)
		}
		if d.Buffered() != 0 || d.p != nil {
			t.Errorf("%d bytes held while idle", d.Buffered())
		}
	}
}

// TestRelease gives everything back in every state, and leaves a decoder as new.
func TestRelease(t *testing.T) {
	o := &Options{}
	wire := join(firstText("abc"), ping("control"), last("def"), []byte{0x00})
	for n := range len(wire) + 1 {
		var d Decoder
		for b := bytes.Clone(wire[:n]); ; {
			_, k, ok, err := d.Next(o, b)
			if b = b[k:]; !ok || err != nil {
				break
			}
		}
		d.Release()
		d.Release()
		if d.Buffered() != 0 || d.InProgress() {
			t.Fatalf("after %d bytes and Release, %d bytes held", n, d.Buffered())
		}
		if m, _, ok, err := d.Next(o, text("new")); !ok || err != nil || string(m.Payload) != "new" {
			t.Fatalf("after %d bytes and Release: %v, %v, %v", n, m, ok, err)
		}
	}
}

// TestUnvalidatedOptions: a limit that Validate refuses bounds memory all the same.
func TestUnvalidatedOptions(t *testing.T) {
	for _, limit := range []int{-1, -1 << 62, maxMaxMessageBytes + 1, 1<<63 - 1} {
		o := Options{MaxMessageBytes: limit}
		if o.Validate() == nil {
			t.Errorf("limit %d is valid", limit)
		}
		got := decode(t, &o, header(fin|0x2, true, length64, defaultMaxMessageBytes+1))
		if got.fault != FaultMessageTooBig {
			t.Errorf("limit %d: %v", limit, got)
		}
	}
	for _, limit := range []int{0, 1, maxMaxMessageBytes} {
		if err := (&Options{MaxMessageBytes: limit}).Validate(); err != nil {
			t.Error(err)
		}
	}
}

// TestConnectionsDoNotMix decodes messages in pieces on many connections at once. All of them draw from the same
// pools, and each has its own marker.
func TestConnectionsDoNotMix(t *testing.T) {
	o := &Options{}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			type conn struct {
				d    Decoder
				wire []byte
				want string
			}
			conns := make([]conn, 50)
			for i := range conns {
				c := &conns[i]
				c.want = strings.Repeat(fmt.Sprintf("<%d.%d>", g, i), 1+40*i)
				c.wire = fragments(0x1, c.want, 100+i)
			}
			for open := len(conns); open > 0; {
				for i := range conns {
					c := &conns[i]
					if c.wire == nil {
						continue
					}
					n := min(len(c.wire), 61+i)
					m, _, ok, err := c.d.Next(o, c.wire[:n])
					c.wire = c.wire[n:]
					if err != nil {
						t.Errorf("connection %d.%d: %v", g, i, err)
						return
					}
					if !ok {
						continue
					}
					if string(m.Payload) != c.want {
						t.Errorf("connection %d.%d got bytes of another one", g, i)
					}
					c.d.Release()
					c.wire = nil
					open--
				}
			}
		})
	}
	wg.Wait()
}
