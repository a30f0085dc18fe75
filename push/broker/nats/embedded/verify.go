package embedded

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/minio/highwayhash"
)

// This file looks at what the streams have on disk before the server of NATS does. That one finds a damaged record when it comes to it, and then either never
// gets beyond it, or takes all that is behind it for deleted, which looks like publications that were never made.

// The files of a stream in $G/streams/NAME/msgs: N.blk has records, one after another; index.db says what is in those, and spares the server to look.
const (
	blockSuffix = ".blk"
	indexFile   = "index.db"
)

// The form of a record: its length in 4 bytes, of which the highest bit says that it has headers, sequence and time in 8 bytes each, the subject's length in 2;
// the subject, perhaps the headers with their length in 4 bytes, and the body; 8 bytes of HighwayHash over all of that but the lengths. Little endian.
const (
	recordHead  = 22
	recordHash  = 8
	headersBit  = 1 << 31
	headersSize = 4
)

// damage is what is wrong with the streams' files.
type damage struct {
	streams map[string]bool // directories
	what    []string
}

func (d *damage) add(stream, format string, args ...any) {
	if d.streams == nil {
		d.streams = map[string]bool{}
	}
	d.streams[stream] = true
	d.what = append(d.what, fmt.Sprintf(format, args...))
}

// String names the first ones.
func (d *damage) String() string {
	const most = 3
	text := strings.Join(d.what[:min(most, len(d.what))], "; ")
	if n := len(d.what) - most; n > 0 {
		text += fmt.Sprintf("; and %d more", n)
	}
	return text
}

// streamDirs returns the directories of the streams below dir.
func streamDirs(dir string) ([]string, error) {
	return filepath.Glob(filepath.Join(dir, storeDir, "jetstream", "*", "streams", "*"))
}

// blockSizes returns the size of each block below dir, by its path from there.
func blockSizes(dir string) (map[string]int64, error) {
	streams, err := streamDirs(dir)
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, stream := range streams {
		err := eachBlock(stream, func(path string, size int64) error {
			name, err := filepath.Rel(dir, path)
			sizes[name] = size
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return sizes, nil
}

func eachBlock(stream string, f func(path string, size int64) error) error {
	entries, err := os.ReadDir(filepath.Join(stream, "msgs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), blockSuffix) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if err := f(filepath.Join(stream, "msgs", e.Name()), info.Size()); err != nil {
			return err
		}
	}
	return nil
}

// verify reads all blocks below dir. The sizes are those of an orderly end; nil after another one, when a block may end within a record that nobody
// was told of.
func verify(dir string, sizes map[string]int64) (damage, error) {
	var d damage
	streams, err := streamDirs(dir)
	if err != nil {
		return d, err
	}
	left := map[string]int64{}
	for name, size := range sizes {
		left[name] = size
	}
	for _, stream := range streams {
		err := eachBlock(stream, func(path string, size int64) error {
			name, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			want, known := left[name]
			delete(left, name)
			switch {
			case sizes != nil && !known:
				d.add(stream, "%s was not there", name)
			case sizes != nil && want != size:
				d.add(stream, "%s has %d bytes and not %d", name, size, want)
			default:
				return verifyBlock(&d, stream, path, name, sizes == nil)
			}
			return nil
		})
		if err != nil {
			return d, err
		}
	}
	for name := range left {
		d.add(filepath.Dir(filepath.Dir(filepath.Join(dir, name))), "%s is missing", name)
	}
	return d, nil
}

// verifyBlock reads one block. It may end within a record if torn.
func verifyBlock(d *damage, stream, path, name string, torn bool) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%s", filepath.Base(stream), strings.TrimSuffix(filepath.Base(path), blockSuffix)))
	hash, err := highwayhash.New64(key[:])
	if err != nil {
		return err
	}
	whole := func(r []byte) bool {
		hash.Reset()
		return hashed(hash.Write, r) && bytes.Equal(hash.Sum(nil), r[len(r)-recordHash:])
	}
	last := uint64(0)
	for at := 0; at < len(b); {
		n, good := record(b[at:])
		if !good && n > len(b)-at && torn && !goesOn(b[at:], last, whole) {
			return nil
		}
		if !good || !whole(b[at:at+n]) {
			d.add(stream, "%s is damaged at byte %d of %d", name, at, len(b))
			return nil
		}
		last = max(last, sequence(b[at:]))
		at += n
	}
	return nil
}

// goesOn reports whether a record is whole somewhere behind the one that b begins with, of which then more than the end is missing.
func goesOn(b []byte, last uint64, whole func([]byte) bool) bool {
	const near = 1 << 20 // sequences; so that nearly nothing but records is looked at
	for at := 1; at < len(b)-recordHead; at++ {
		if sequence(b[at:])-last-1 > near {
			continue
		}
		if n, good := record(b[at:]); good && whole(b[at:at+n]) {
			return true
		}
	}
	return false
}

// sequence is that of the record that b begins with, without the bits that say that it is deleted.
func sequence(b []byte) uint64 { return binary.LittleEndian.Uint64(b[4:]) &^ (3 << 62) }

// record returns the length of the one that b begins with, and whether that can be, and it is all there.
func record(b []byte) (n int, good bool) {
	if len(b) < recordHead {
		return recordHead, false
	}
	length := binary.LittleEndian.Uint32(b)
	least := recordHead + recordHash + int(binary.LittleEndian.Uint16(b[20:]))
	if length&headersBit != 0 {
		least += headersSize
	}
	n = int(length &^ headersBit)
	return n, n >= least && n <= len(b)
}

// hashed calls write with what a record's hash is of, and reports whether subject and headers can be as long as it says: their lengths are not hashed. A
// subject that seems shorter than it was is not found.
func hashed(write func([]byte) (int, error), r []byte) bool {
	subject := recordHead + int(binary.LittleEndian.Uint16(r[20:]))
	body := subject
	if binary.LittleEndian.Uint32(r)&headersBit != 0 {
		body += headersSize
		const end = "\r\n\r\n"
		length := bytes.Index(r[body:len(r)-recordHash], []byte(end)) + len(end)
		if binary.LittleEndian.Uint32(r[subject:]) != uint32(length) {
			return false
		}
	}
	if bytes.ContainsFunc(r[recordHead:subject], func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return false
	}
	_, _ = write(r[4:20])
	_, _ = write(r[recordHead:subject])
	_, _ = write(r[body : len(r)-recordHash])
	return true
}

// examine reads the data of a server that is about to start. What is damaged means that all that relies on the data begins anew; in a cluster others have
// it, and this server must not answer for it.
func (s *Server) examine(p past) error {
	clustered := s.config.ClusterName != ""
	if clustered && p.powerLost { // the logs of the cluster bring what the streams lack
		return nil
	}
	d, err := verify(s.config.Dir, p.blocks)
	if err != nil {
		return fmt.Errorf("data-dir: %w", err)
	}
	if len(d.what) == 0 {
		return nil
	}
	if clustered {
		return fmt.Errorf("data-dir: the data in %s is damaged: %s; while the other servers run, remove the directory, and it is taken from them", s.config.Dir, &d)
	}
	for stream := range d.streams { // so that the server reads the blocks
		if err := os.Remove(filepath.Join(stream, "msgs", indexFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("data-dir: %w", err)
		}
	}
	s.id.Suspect = "the data is damaged: " + d.String()
	return nil
}
