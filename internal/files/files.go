// Package files reads the files that an operator names: settings, secrets, keys and certificates. All of them are small, so that what was named
// by mistake costs little and is told: a disk, /dev/zero, a pipe into which nobody writes.
package files

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MaxSecretBytes is what a file of secrets, keys or certificates may have.
const MaxSecretBytes = 1 << 20

// Patience is how long a pipe may take until all of it has been read.
const Patience = 10 * time.Second

// Check reports why Read would not read a file. Out of a pipe it takes nothing.
func Check(path string, most int) error {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
		return err
	}
	f, _, err := open(path, most)
	if err != nil {
		return err
	}
	return f.Close()
}

// Read returns what is in a file of no more than most bytes. A pipe is read to its end, as long as that comes within Patience; somebody may
// begin to write into it meanwhile.
func Read(path string, most int) ([]byte, error) { return read(path, most, Patience) }

func read(path string, most int, patience time.Duration) ([]byte, error) {
	f, info, err := open(path, most)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !info.Mode().IsRegular() {
		_ = f.SetReadDeadline(time.Now().Add(patience)) // what cannot keep anybody waiting has none
	}
	var r io.Reader = f
	if info.Mode()&os.ModeNamedPipe != 0 {
		raw, err := f.SyscallConn()
		if err != nil {
			return nil, err
		}
		r = &pipe{raw: raw}
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("%s: nobody wrote all of it into this pipe within %v", path, patience)
	case err != nil:
		return nil, err
	case len(b) > most:
		return nil, tooLarge(path, most)
	case len(b) == 0 && !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is empty: what comes out of a pipe can be read once", path)
	}
	return b, nil
}

// open opens what is neither a directory nor known to be too large.
func open(path string, most int) (*os.File, os.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // without it, fifo(7) waits here for a writer
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = fmt.Errorf("%s is a directory", path)
	case info.Mode().IsRegular() && info.Size() > int64(most):
		err = tooLarge(path, most)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

func tooLarge(path string, most int) error {
	return fmt.Errorf("%s has more than %d bytes", path, most)
}

// pipe reads a FIFO that was opened without waiting for a writer: as long as there was none, read(2) says that the end is reached.
type pipe struct{ raw syscall.RawConn }

// Read implements io.Reader.
func (p *pipe) Read(b []byte) (n int, err error) {
	wait := p.raw.Read(func(fd uintptr) bool {
		for {
			n, err = unix.Read(int(fd), b)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case n != 0 || err != nil:
				return !errors.Is(err, unix.EAGAIN)
			}
			ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			_, _ = unix.Poll(ready, 0)
			if ready[0].Revents&unix.POLLIN == 0 { // else somebody has just written
				return ready[0].Revents&unix.POLLHUP != 0 // a writer was there, and has gone
			}
		}
	})
	switch {
	case wait != nil:
		return 0, wait
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Secret returns what is in a file without the white space around it, which must be something.
func Secret(path string) ([]byte, error) {
	b, err := Read(path, MaxSecretBytes)
	if err != nil {
		return nil, err
	}
	if b = bytes.TrimSpace(b); len(b) == 0 {
		return nil, fmt.Errorf("%s is empty", path)
	}
	return b, nil
}

// KeyPair reads a certificate chain and its key, both in PEM.
func KeyPair(certificate, key string) (tls.Certificate, error) {
	chain, err := Read(certificate, MaxSecretBytes)
	if err != nil {
		return tls.Certificate{}, err
	}
	private, err := Read(key, MaxSecretBytes)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(chain, private)
}

// Authorities reads certificates of authorities, in PEM.
func Authorities(path string) (*x509.CertPool, error) {
	b, err := Read(path, MaxSecretBytes)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s has no certificate in PEM", path)
	}
	return pool, nil
}

// Watchable reports whether what path leads to is a file that can be read as often as one likes; nothing else says so.
func Watchable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// Exposed reports whether anybody on the host may read a file: its own mode lets them, and those of the directories on the way.
func Exposed(path string) bool {
	const read, pass = 0o004, 0o001
	path, err := filepath.EvalSymlinks(path)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return false
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode()&read == 0 {
		return false
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode()&pass == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}
