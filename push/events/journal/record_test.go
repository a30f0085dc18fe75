package journal

import (
	"bytes"
	"testing"
)

func TestRecordsInPieces(t *testing.T) {
	want := Record{Seq: 1 << 60, Time: -5, Tag: 255, Data: []byte("data")}
	b := appendRecord([]byte("before"), want)[len("before"):]
	for n := range b {
		if _, size, err := parseRecord(b[:n]); size != 0 || err != nil {
			t.Fatalf("%d bytes of %d: a record of %d, %v", n, len(b), size, err)
		}
	}
	for at := range b {
		for bit := range 8 {
			c := bytes.Clone(b)
			c[at] ^= 1 << bit
			if _, size, err := parseRecord(append(c, 0, 0)); err == nil && size != 0 {
				t.Fatalf("bit %d of byte %d flipped, and taken for a record", bit, at)
			}
		}
	}
	got, n, err := parseRecord(append(b, 1, 2, 3))
	if err != nil || n != len(b) || got.Seq != want.Seq || got.Time != want.Time || got.Tag != want.Tag || !bytes.Equal(got.Data, want.Data) {
		t.Errorf("%+v, %d, %v", got, n, err)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendRecord(nil, Record{Seq: 1}))
	f.Add(appendRecord(appendRecord(nil, Record{Seq: 1, Data: []byte("abc")}), Record{Seq: 2, Tag: 3, Time: 4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			r, n, err := parseRecord(b)
			if n == 0 || err != nil {
				return
			}
			if again := appendRecord(nil, r); !bytes.Equal(again, b[:n]) {
				t.Fatalf("%x was read as %x", b[:n], again)
			}
			b = b[n:]
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	data := bytes.Repeat([]byte("x"), 100)
	for _, name := range []string{"memory", "disk"} {
		b.Run(name, func(b *testing.B) {
			c := config(b)
			c.MaxBytes, c.MaxPendingBytes = 1<<30, 64<<20
			var j *Journal
			if name == "disk" {
				j, _ = create(b, c)
			} else {
				j = Memory(c)
			}
			b.ReportAllocs()
			for i := range b.N {
				j.Append(0, 0, data)
				if i%10_000 == 9_999 { // more would only wait in memory
					if err := j.Sync(); err != nil {
						b.Fatal(err)
					}
				}
			}
			if err := j.Sync(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(j.Stats().Syncs)/b.Elapsed().Seconds(), "syncs/s")
			_ = j.Close()
		})
	}
}
