// Package takeover hands listening sockets from a process to the one that replaces it, over a unix socket, so that at no
// moment nobody accepts: the queue of connections that wait is the kernel's, and both have it.
//
// The new process connects (Ask) and is sent the sockets. When it serves, it says so (Done), and only then the old
// one stops accepting. If it fails before, nothing has happened.
package takeover

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is a listening socket and the address by which the configuration names it.
type Socket struct {
	Address string
	File    *os.File
}

// The bounds of a handover.
const (
	maxSockets = 64
	maxMessage = 1 << 20

	ioTimeout    = 10 * time.Second
	startTimeout = 30 * time.Second // from the sockets to Done
)

// message goes first, with the sockets beside it.
type message struct {
	Addresses []string `json:"addresses"`
	State     []byte   `json:"state"`
	PID       int      `json:"pid"`
}

// serving is what the new process says at last, and draining what the old one answers.
const (
	serving  = "serving\n"
	draining = "draining\n"
)

// Handover is what the old process has given.
type Handover struct {
	Sockets []Socket
	State   []byte // as given to Listen
	PID     int    // of the old process
	conn    *net.UnixConn
}

// Ask connects to the process that listens at path and takes its sockets. It returns nil if there is none.
func Ask(ctx context.Context, path string) (*Handover, error) {
	d := net.Dialer{Timeout: ioTimeout}
	c, err := d.DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("takeover: %w", err)
	}
	conn := c.(*net.UnixConn)
	h, err := receive(conn)
	if err != nil {
		return nil, fmt.Errorf("takeover: %s: %w", path, errors.Join(err, conn.Close()))
	}
	return h, nil
}

// Done tells the old process that this one serves. It then stops accepting, and drains. An error says that it may not have
// heard of it: then both serve.
func (h *Handover) Done() error {
	_ = h.conn.SetDeadline(time.Now().Add(ioTimeout))
	_, err := io.WriteString(h.conn, serving)
	answer := make([]byte, len(draining))
	if err == nil {
		_, err = io.ReadFull(h.conn, answer)
	}
	return errors.Join(err, h.Close())
}

// Close gives up, unless Done was called before: the old process goes on as if nothing had been. The sockets are their user's.
func (h *Handover) Close() error {
	err := h.conn.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func receive(conn *net.UnixConn) (*Handover, error) {
	if err := sameUser(conn); err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(ioTimeout))
	head, oob := make([]byte, 4), make([]byte, unix.CmsgSpace(4*maxSockets))
	n, oobn, flags, _, err := conn.ReadMsgUnix(head, oob) // descriptors come with the first byte, closed on exec
	files := filesOf(oob[:oobn])
	fail := func(err error) (*Handover, error) {
		for _, f := range files {
			_ = f.Close()
		}
		return nil, err
	}
	if err != nil || flags&unix.MSG_CTRUNC != 0 {
		return fail(errors.Join(errors.New("no sockets came"), err))
	}
	if _, err := io.ReadFull(conn, head[n:]); err != nil {
		return fail(err)
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxMessage {
		return fail(fmt.Errorf("a message of %d bytes", size))
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(conn, body); err != nil {
		return fail(err)
	}
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		return fail(err)
	}
	if len(m.Addresses) != len(files) {
		return fail(fmt.Errorf("%d sockets for %d addresses", len(files), len(m.Addresses)))
	}
	h := &Handover{State: m.State, PID: m.PID, conn: conn}
	for i, address := range m.Addresses {
		h.Sockets = append(h.Sockets, Socket{address, files[i]})
	}
	return h, nil
}

// filesOf takes the descriptors out of control messages.
func filesOf(oob []byte) (files []*os.File) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "socket "+strconv.Itoa(fd)))
		}
	}
	return files
}

// sameUser wants the other process to be of this one's user, or root's.
func sameUser(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	if e := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil || err != nil {
		return errors.Join(e, err)
	}
	if uid := os.Geteuid(); int(peer.Uid) != uid && peer.Uid != 0 {
		return fmt.Errorf("the other process is user %d's, not %d's", peer.Uid, uid)
	}
	return nil
}

// Giver is the old process.
type Giver interface {
	// Give returns what the new process is to have. The files are closed afterwards.
	Give() (sockets []Socket, state []byte, err error)
	// Taken is called once, when the new process serves.
	Taken()
}

// acceptor is a *net.UnixListener.
type acceptor interface {
	AcceptUnix() (*net.UnixConn, error)
	Close() error
}

// Offer waits for a process that takes over.
type Offer struct {
	listener acceptor
	path     string
	own      os.FileInfo
	giver    Giver
	logger   *slog.Logger
	done     chan struct{}

	// Guarded by mu.
	mu     sync.Mutex
	closed bool
	asking *net.UnixConn // the process that is being served; nil without
}

// Listen offers what giver gives to whoever asks at path, until one has taken it. It replaces the file of another process.
func Listen(path string, giver Giver, logger *slog.Logger) (*Offer, error) {
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	_ = os.Remove(temporary) // of a process that had this number before
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("takeover: %w", err)
	}
	l.SetUnlinkOnClose(false)
	o := &Offer{listener: l, path: path, giver: giver, logger: logger, done: make(chan struct{})}
	err = os.Chmod(temporary, 0o600)
	if err == nil {
		o.own, err = os.Stat(temporary)
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return nil, fmt.Errorf("takeover: %w", errors.Join(err, l.Close(), os.Remove(temporary)))
	}
	go o.run()
	return o, nil
}

// Close ends the offer, and removes the file if it is still this one's.
func (o *Offer) Close() error {
	err := o.listener.Close()
	o.mu.Lock()
	o.closed = true
	if o.asking != nil {
		_ = o.asking.Close() // else its silence would hold us up
	}
	o.mu.Unlock()
	<-o.done
	if info, e := os.Stat(o.path); e == nil && os.SameFile(info, o.own) {
		err = errors.Join(err, os.Remove(o.path))
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// run answers one after the other, until one has taken over.
func (o *Offer) run() {
	defer close(o.done)
	for {
		conn, err := o.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && o.serve(conn) {
			err = o.hand(conn)
			_ = conn.Close()
			if err == nil {
				_ = o.listener.Close()
				o.giver.Taken()
				return
			}
		}
		o.logger.Warn("takeover failed; serving on", "error", err)
		time.Sleep(breather) // it may be descriptors that are lacking
	}
}

// breather is between two attempts.
const breather = 50 * time.Millisecond

// serve notes who is being served, or closes conn if nobody is any more.
func (o *Offer) serve(conn *net.UnixConn) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		_ = conn.Close()
		return false
	}
	o.asking = conn
	return true
}

// hand gives everything to one process and waits until it serves.
func (o *Offer) hand(conn *net.UnixConn) error {
	if err := sameUser(conn); err != nil {
		return err
	}
	sockets, state, err := o.giver.Give()
	defer func() {
		for _, s := range sockets {
			_ = s.File.Close()
		}
	}()
	if err != nil {
		return err
	}
	if len(sockets) > maxSockets {
		return fmt.Errorf("%d sockets are more than %d", len(sockets), maxSockets)
	}
	_ = conn.SetDeadline(time.Now().Add(ioTimeout))
	if err := send(conn, sockets, state); err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(startTimeout))
	answer := make([]byte, len(serving))
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != serving {
		return errors.Join(errors.New("the other process did not come to serve"), err)
	}
	_, _ = io.WriteString(conn, draining) // it serves, whether it hears this or not
	return nil
}

func send(conn *net.UnixConn, sockets []Socket, state []byte) error {
	m := message{State: state, PID: os.Getpid()}
	var fds []int
	for _, s := range sockets {
		m.Addresses = append(m.Addresses, s.Address)
		raw, err := s.File.SyscallConn() // Fd would make the socket blocking
		if err != nil {
			return err
		}
		// Its file is open until hand returns.
		if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
			return err
		}
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	b := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	n, _, err := conn.WriteMsgUnix(b, unix.UnixRights(fds...), nil)
	if err != nil {
		return err
	}
	_, err = conn.Write(b[n:])
	return err
}
