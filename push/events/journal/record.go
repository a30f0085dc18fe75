package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// Record is what a Journal keeps.
type Record struct {
	Seq  uint64 // its number, from 1
	Time int64  // as given to Append
	Tag  uint8  // as given to Append
	Data []byte
}

// A record in a file: the length of what follows the checksum, the checksum of length and the rest, a version, tag, number, time,
// data; integers are little-endian.
const (
	headBytes  = 8
	fixedBytes = 1 + 1 + 8 + 8
	minRecord  = headBytes + fixedBytes

	version = 1

	// MaxData bounds a record's data.
	MaxData = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged says that no record is where one should be.
var errDamaged = errors.New("journal: damaged record")

// appendRecord adds r, whose data has at most MaxData bytes, to b.
func appendRecord(b []byte, r Record) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(fixedBytes+len(r.Data)))
	b = append(b, 0, 0, 0, 0, version, r.Tag)
	b = binary.LittleEndian.AppendUint64(b, r.Seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Time))
	b = append(b, r.Data...)
	binary.LittleEndian.PutUint32(b[start+4:], checksum(b[start:]))
	return b
}

// checksum is that of one record: of all but itself.
func checksum(record []byte) uint32 {
	return crc32.Update(crc32.Checksum(record[:4], castagnoli), castagnoli, record[headBytes:])
}

// parseRecord reads the record at the begin of b and returns its size. Data points into b. It returns n == 0 and no error when b is too
// short to have all of it.
func parseRecord(b []byte) (r Record, n int, err error) {
	if len(b) < headBytes {
		return Record{}, 0, nil
	}
	size := int(binary.LittleEndian.Uint32(b))
	if size < fixedBytes || size > fixedBytes+MaxData {
		return Record{}, 0, errDamaged
	}
	n = headBytes + size
	if len(b) < n {
		return Record{}, 0, nil
	}
	b = b[:n:n]
	if binary.LittleEndian.Uint32(b[4:]) != checksum(b) || b[headBytes] != version {
		return Record{}, 0, errDamaged
	}
	r = Record{
		Tag: b[headBytes+1], Seq: binary.LittleEndian.Uint64(b[headBytes+2:]),
		Time: int64(binary.LittleEndian.Uint64(b[headBytes+10:])), Data: b[minRecord:],
	}
	return r, n, nil
}
