package nats

import (
	"sync"

	gonats "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/millpond/millpond/internal/files"
)

// credentials are those of a user: a file with a JWT and the seed that signs, or with the seed alone. The file is read again for each connection, so that it
// can be replaced; what came out of a pipe, or was in a file that is gone, is kept.
type credentials struct {
	// Immutable.
	path string

	// Guarded by mu.
	mu   sync.Mutex
	last []byte
}

func (c *credentials) read() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last != nil && !files.Watchable(c.path) {
		return c.last, nil
	}
	b, err := files.Secret(c.path)
	if err != nil {
		return nil, err
	}
	c.last = b
	return b, nil
}

// token returns the JWT.
func (c *credentials) token() (string, error) {
	b, err := c.read()
	if err != nil {
		return "", err
	}
	return nkeys.ParseDecoratedJWT(b)
}

// key returns the pair that the seed makes, which is to be wiped.
func (c *credentials) key() (nkeys.KeyPair, error) {
	b, err := c.read()
	if err != nil {
		return nil, err
	}
	return nkeys.ParseDecoratedUserNKey(b)
}

// sign signs what a server sent.
func (c *credentials) sign(nonce []byte) ([]byte, error) {
	key, err := c.key()
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	return key.Sign(nonce)
}

// user is the option of a file with both.
func (c *credentials) user() (gonats.Option, error) {
	if _, err := c.token(); err != nil {
		return nil, err
	}
	if _, err := c.sign(nil); err != nil {
		return nil, err
	}
	return gonats.UserJWT(c.token, c.sign), nil
}

// seed is the option of a file with a seed.
func (c *credentials) seed() (gonats.Option, error) {
	key, err := c.key()
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	return gonats.Nkey(public, c.sign), nil
}
