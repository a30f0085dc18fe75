package verify

import (
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math/bits"
	"strings"
	"sync"
	"time"
)

// Stamp is what a message says of itself.
type Stamp struct {
	Publisher uint16
	Channel   uint32 // the Sum of its name
	Sequence  uint64 // of this publisher in this channel, from 1; at most maxSequence
	Time      int64  // when it was due, in nanoseconds of a clock that publisher and subscriber share; at most maxTime
	Lag       uint32 // milliseconds after that it was sent; at most maxLag
}

// Sent is when it was sent, by the same clock.
func (s Stamp) Sent() int64 { return s.Time + int64(s.Lag)*int64(time.Millisecond) }

// Everywhere is the Channel of a message that is published in several.
const Everywhere = 0

// MinBytes is the size of the smallest message.
const MinBytes = len(`"p0000.c00000000.n0000000000.t00000000000000.l000000.`) + len(`.00000000"`)

const (
	maxSequence = 1<<40 - 1
	maxTime     = 1<<56 - 1 // two years after the machine began
	maxLag      = 1<<24 - 1
)

// ErrChanged is the error of a message that is not as it was made.
var ErrChanged = errors.New("a message was changed")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum is what a stamp keeps of a channel's name.
func Sum(channel string) uint32 { return crc32.Checksum([]byte(channel), castagnoli) }

// padding is what fills a message, from a place in the sentence that depends on its sequence: no two neighbours are
// alike.
const sentence = "The pond is calm, a message is a stone. "

var padding = sync.OnceValue(func() string { return strings.Repeat(sentence, 1<<11) })

// Append adds a message of size bytes, or of MinBytes if that is more, to b: a JSON string without escapes, which a
// server passes on as it is, whatever it does with JSON. Its last part is a checksum (CRC-32C) of all before.
func (s Stamp) Append(b []byte, size int) []byte {
	begin := len(b)
	b = appendHex(append(b, `"p`...), uint64(s.Publisher), 4)
	b = appendHex(append(b, ".c"...), uint64(s.Channel), 8)
	b = appendHex(append(b, ".n"...), s.Sequence, 10)
	b = appendHex(append(b, ".t"...), uint64(s.Time), 14)
	b = appendHex(append(b, ".l"...), uint64(min(s.Lag, maxLag)), 6)
	b = append(b, '.')
	for fill := size - MinBytes; fill > 0; {
		part := padding()[s.Sequence*7%uint64(len(sentence)):]
		part = part[:min(fill, len(part))]
		b, fill = append(b, part...), fill-len(part)
	}
	sum := crc32.Checksum(b[begin:], castagnoli)
	b = appendHex(append(b, '.'), uint64(sum), 8)
	return append(b, '"')
}

// Parse reads a message. The error is ErrChanged if it is not as Append made it, to the bit.
func Parse(b []byte) (s Stamp, err error) {
	if len(b) < MinBytes {
		return s, ErrChanged
	}
	body, tail := b[:len(b)-10], b[len(b)-10:]
	ok := tail[0] == '.' && tail[9] == '"' && readHex(tail[1:9]) == uint64(crc32.Checksum(body, castagnoli)) &&
		string(body[:2]) == `"p` && string(body[6:8]) == ".c" && string(body[16:18]) == ".n" && string(body[28:30]) == ".t" && string(body[44:46]) == ".l"
	if !ok {
		return s, ErrChanged
	}
	return Stamp{
		Publisher: uint16(readHex(body[2:6])), Channel: uint32(readHex(body[8:16])),
		Sequence: readHex(body[18:28]), Time: int64(readHex(body[30:44])), Lag: uint32(readHex(body[46:52])),
	}, nil
}

// appendHex adds the last digits of v.
func appendHex(b []byte, v uint64, digits int) []byte {
	var whole [8]byte
	for i := range whole {
		whole[i] = byte(v >> (56 - 8*i))
	}
	return hex.AppendEncode(b, whole[8-digits/2:])
}

// readHex is the value of digits in lower case; it has all bits set where that is none.
func readHex(digits []byte) (v uint64) {
	for _, d := range digits {
		switch {
		case d >= '0' && d <= '9':
			v = bits.RotateLeft64(v, 4) | uint64(d-'0')
		case d >= 'a' && d <= 'f':
			v = bits.RotateLeft64(v, 4) | uint64(d-'a'+10)
		default:
			return ^uint64(0)
		}
	}
	return v
}
