package centrifuge

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"

	"github.com/google/uuid"
)

// ids makes UUIDs of numbers, so that a client has 8 bytes of it instead of 16. They are as those of version 4: encrypted by a key that
// this process alone knows, nobody can guess one or tell how many there are.
type ids struct{ block cipher.Block }

func newIDs() ids {
	var key [16]byte
	_, _ = rand.Read(key[:]) // which never fails
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has the right size
	}
	return ids{block}
}

// of returns the id with a number. Any goroutine.
func (i ids) of(number uint64) (id uuid.UUID) {
	var plain [16]byte
	binary.BigEndian.PutUint64(plain[:], number)
	i.block.Encrypt(id[:], plain[:])
	id[6] = id[6]&0x0f | 0x40 // RFC 9562 §5.4: version 4
	id[8] = id[8]&0x3f | 0x80
	return id
}
