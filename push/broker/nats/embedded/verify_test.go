package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	gonats "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// stored makes a stream with so many messages, some with headers and some deleted, and returns the directory.
func stored(t testing.TB, n, size int) string {
	t.Helper()
	dir := t.TempDir()
	s, err := Start(Config{Dir: dir, StoreBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	c, err := gonats.Connect("", gonats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	js, err := jetstream.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "s", Subjects: []string{"s.>"}, MaxMsgsPerSubject: 1 + int64(n)*2/3}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		var options []jetstream.PublishOpt
		if i%3 == 0 {
			options = append(options, jetstream.WithMsgID(fmt.Sprint(i)))
		}
		if _, err := js.PublishAsync(fmt.Sprint("s.", i%5/4), make([]byte, size), options...); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 0 {
			<-js.PublishAsyncComplete()
		}
	}
	<-js.PublishAsyncComplete()
	return dir
}

// Each byte of a block counts. After a kill, only the last record may be there in part.
func TestVerify(t *testing.T) {
	dir := stored(t, 12, 10)
	blocks, err := blockSizes(dir)
	if err != nil || len(blocks) != 1 {
		t.Fatalf("%v, %v", blocks, err)
	}
	for name := range blocks {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		last, subjectLengths := 0, map[int]bool{}
		for at := 0; at < len(whole); {
			last, subjectLengths[at+20] = at, true
			n, good := record(whole[at:])
			if !good {
				t.Fatalf("no record at %d of %d", at, len(whole))
			}
			at += n
		}
		is := func(content []byte, sizes map[string]int64) bool {
			t.Helper()
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := verify(dir, sizes)
			if err != nil {
				t.Fatal(err)
			}
			return len(d.what) == 0
		}
		if !is(whole, blocks) || !is(whole, nil) {
			t.Error("nothing is wrong")
		}
		for at := range whole {
			content := append([]byte(nil), whole...)
			if content[at] ^= 1 << (at % 8); subjectLengths[at] && content[at] < whole[at] {
				continue // see hashed
			}
			if is(content, blocks) {
				t.Errorf("byte %d of %d is another", at, len(whole))
			}
			if at < last && is(content, nil) {
				t.Errorf("byte %d of %d is another, after a kill", at, len(whole))
			}
			if is(whole[:at], blocks) {
				t.Errorf("%d of %d bytes are there", at, len(whole))
			}
			if at > last && !is(whole[:at], nil) {
				t.Errorf("%d of %d bytes are there, which may be after a kill", at, len(whole))
			}
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	dir := stored(b, 300_000, 128)
	blocks, err := blockSizes(dir)
	if err != nil {
		b.Fatal(err)
	}
	var bytes int64
	for _, size := range blocks {
		bytes += size
	}
	b.SetBytes(bytes)
	for b.Loop() {
		if d, err := verify(dir, blocks); err != nil || len(d.what) > 0 {
			b.Fatal(d.String(), err)
		}
	}
}
