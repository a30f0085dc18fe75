package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// readBuffer is how much a goroutine reads at once. It is what an idle connection holds beside its stack.
const readBuffer = 512

// errClosed is the end that both sides agreed to.
var errClosed = errors.New("closed")

func serveGobwas(l net.Listener) error {
	for {
		conn, err := l.Accept()
		var temporary net.Error
		if errors.As(err, &temporary) && temporary.Timeout() {
			continue
		}
		if err != nil {
			return err
		}
		go echoGobwas(conn)
	}
}

// upgradeGobwas shakes hands. Pages of other sites are refused.
func upgradeGobwas(conn net.Conn) error {
	var host, origin string
	upgrader := ws.Upgrader{
		OnHost: func(h []byte) error { host = string(h); return nil },
		OnHeader: func(key, value []byte) error {
			if string(key) == "Origin" { // it has canonicalised the name
				origin = string(value)
			}
			return nil
		},
		OnBeforeUpgrade: func() (ws.HandshakeHeader, error) {
			if !sameOrigin(origin, host) {
				return nil, ws.RejectConnectionError(ws.RejectionStatus(403))
			}
			return nil, nil
		},
	}
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	if _, err := upgrader.Upgrade(conn); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

func echoGobwas(conn net.Conn) {
	defer conn.Close()
	if err := upgradeGobwas(conn); err != nil {
		return
	}
	a := &answers{conn: conn}
	r := bufio.NewReaderSize(a, readBuffer)
	state := ws.StateServerSide
	var fragments int64 // bytes of the message that is under way
	for {
		err := a.echo(r, &state, &fragments)
		if err == nil {
			continue
		}
		var fault ws.ProtocolError
		if errors.As(err, &fault) {
			a.close(ws.StatusProtocolError, err.Error())
		}
		_ = a.flush()
		return
	}
}

// answers collects what is to be written, and writes it before the next read: the answers to what came in one read
// leave in one write.
type answers struct {
	conn net.Conn
	out  *[]byte // nil while there is nothing

	header [ws.MaxHeaderSize]byte // the one that is read or written
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// Read writes the answers and then reads.
func (a *answers) Read(b []byte) (int, error) {
	if err := a.flush(); err != nil {
		return 0, err
	}
	return a.conn.Read(b)
}

// Write adds to the answers.
func (a *answers) Write(b []byte) (int, error) {
	if a.out == nil {
		a.out = buffers.Get().(*[]byte)
	}
	*a.out = append(*a.out, b...)
	return len(b), nil
}

func (a *answers) flush() error {
	if a.out == nil {
		return nil
	}
	_, err := a.conn.Write(*a.out)
	*a.out = (*a.out)[:0]
	buffers.Put(a.out)
	a.out = nil
	return err
}

// echo reads one frame and answers it: a fragment by a fragment.
func (a *answers) echo(r *bufio.Reader, state *ws.State, fragments *int64) error {
	h, err := ws.ReadHeaderBuffer(r, a.header[:])
	if err != nil {
		return err
	}
	if err := ws.CheckHeader(h, *state); err != nil {
		return err
	}
	if !h.OpCode.IsControl() {
		*fragments += h.Length
		if h.Length > maxMessage || *fragments > maxMessage {
			a.close(ws.StatusMessageTooBig, "too big")
			return errClosed
		}
		*state = state.Clear(ws.StateFragmented)
		if h.Fin {
			*fragments = 0
		} else {
			*state = state.Set(ws.StateFragmented)
		}
	}
	return a.answer(r, h)
}

// answer reads what a frame carries behind the header that it is answered with.
func (a *answers) answer(r *bufio.Reader, h ws.Header) error {
	back := ws.Header{Fin: h.Fin, OpCode: h.OpCode, Length: h.Length}
	switch h.OpCode {
	case ws.OpPing:
		back.OpCode = ws.OpPong
	case ws.OpPong:
		_, err := r.Discard(int(h.Length))
		return err
	}
	if int64(r.Buffered()) < h.Length { // what is missing may take its time, and the answers before must not
		if err := a.flush(); err != nil {
			return err
		}
	}
	if err := ws.WriteHeaderBuffer(a, back, a.header[:]); err != nil {
		return err
	}
	at := len(*a.out)
	out := a.out
	*out = append(*out, make([]byte, h.Length)...)
	a.out = nil // what reads must not write half an answer
	_, err := io.ReadFull(r, (*out)[at:])
	a.out = out
	if err != nil {
		*out = (*out)[:0]
		return err
	}
	ws.Cipher((*out)[at:], h.Mask, 0)
	if h.OpCode == ws.OpClose {
		return errClosed
	}
	return nil
}

func (a *answers) close(code ws.StatusCode, reason string) {
	_ = ws.WriteFrame(a, ws.NewCloseFrame(ws.NewCloseFrameBody(code, reason)))
}
