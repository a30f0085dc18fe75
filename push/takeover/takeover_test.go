package takeover

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// giver gives one listening socket.
type giver struct {
	t     *testing.T
	file  *os.File
	err   error
	taken chan struct{}
}

func (g *giver) Give() ([]Socket, []byte, error) {
	if g.err != nil {
		return nil, nil, g.err
	}
	l, err := net.FileListener(g.file)
	if err != nil {
		g.t.Error(err)
		return nil, nil, err
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	return []Socket{{"127.0.0.1:1", f}}, []byte("state"), err
}

func (g *giver) Taken() { close(g.taken) }

func newGiver(t *testing.T) *giver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &giver{t: t, file: f, taken: make(chan struct{})}
}

func offer(t *testing.T, path string, g Giver) *Offer {
	t.Helper()
	o, err := Listen(path, g, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

func ask(t *testing.T, path string) *Handover {
	t.Helper()
	h, err := Ask(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if h == nil {
		t.Fatal("nobody answers")
	}
	return h
}

func TestHandover(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	g := newGiver(t)
	o := offer(t, path, g)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: others may connect", info.Mode(), err)
	}

	gaveUp := ask(t, path) // this one fails
	_ = gaveUp.Sockets[0].File.Close()
	if err := gaveUp.Close(); err != nil {
		t.Error(err)
	}

	h := ask(t, path)
	if len(h.Sockets) != 1 || h.Sockets[0].Address != "127.0.0.1:1" || string(h.State) != "state" || h.PID != os.Getpid() {
		t.Errorf("got %+v", h)
	}
	l, err := net.FileListener(h.Sockets[0].File)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_ = h.Sockets[0].File.Close()
	select {
	case <-g.taken:
		t.Fatal("taken before the other serves")
	default:
	}
	next := newGiver(t)
	if err := h.Done(); err != nil {
		t.Error(err)
	}
	<-g.taken
	offer(t, path, next) // in the place of the first
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	h = ask(t, path) // the first's end did not remove the second's file
	_ = h.Sockets[0].File.Close()
	if err := h.Done(); err != nil {
		t.Error(err)
	}
	<-next.taken
}

func TestNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if h, err := Ask(t.Context(), path); h != nil || err != nil {
		t.Errorf("without a file: %v, %v", h, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	if h, err := Ask(t.Context(), path); h != nil || err != nil {
		t.Errorf("with a stale file: %v, %v", h, err)
	}
	offer(t, path, newGiver(t)) // replaces it
	ask(t, path).Close()
	if _, err := Listen(filepath.Join(path, "no"), newGiver(t), slog.Default()); err == nil {
		t.Error("an offer in no directory")
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 200))
	if _, err := Ask(t.Context(), long); err == nil {
		t.Error("a path that is too long")
	}
}

// A process that lies, or is of another protocol, is not believed, and nothing of it is left open.
func TestAskFaults(t *testing.T) {
	message := func(body string) string {
		return string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
	}
	for name, answer := range map[string]string{
		"nothing": "", "half a length": "\x00", "no body": "\x00\x00\x00\x05", "too long": "\xff\xff\xff\xffxxx",
		"no JSON": message("?"), "sockets missing": message(`{"addresses":["a"]}`),
	} {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				_, _ = io.WriteString(c, answer)
				_ = c.Close()
			}
		}()
		if h, err := Ask(t.Context(), path); err == nil {
			t.Errorf("%s: got %+v", name, h)
		}
		_ = l.Close()
	}
}

// Whoever asks and then says something else, or nothing, takes nothing over; the next one may.
func TestOfferFaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	g := newGiver(t)
	offer(t, path, g)
	for _, answer := range []string{"", "serv", "whatever you say"} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, answer)
		_ = c.Close()
	}
	h := ask(t, path)
	_ = h.Sockets[0].File.Close()
	select {
	case <-g.taken:
		t.Error("taken by nobody")
	case <-time.After(10 * time.Millisecond):
	}
	if err := h.Done(); err != nil {
		t.Error(err)
	}
	<-g.taken

	path = filepath.Join(t.TempDir(), "s")
	broken := newGiver(t)
	broken.err = errors.New("no")
	offer(t, path, broken)
	if h, err := Ask(t.Context(), path); err == nil {
		t.Errorf("got %+v", h)
	}
}

// A process that asks and then is silent does not hold up the end of the offer.
func TestSilentTaker(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	o := offer(t, path, newGiver(t))
	h := ask(t, path)
	defer h.Close()
	_ = h.Sockets[0].File.Close()
	begin := time.Now()
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > startTimeout/2 {
		t.Errorf("closing took %v", took)
	}
}

// failing is a listener whose first accepts find no descriptor.
type failing struct {
	*net.UnixListener
	left int // owned by the goroutine that accepts
}

func (f *failing) AcceptUnix() (*net.UnixConn, error) {
	if f.left > 0 {
		f.left--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.UnixListener.AcceptUnix()
}

// A lack of descriptors does not end the offer.
func TestOfferWithoutDescriptors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	g := newGiver(t)
	o := &Offer{listener: &failing{l, 3}, path: path, giver: g, logger: slog.New(slog.DiscardHandler), done: make(chan struct{})}
	go o.run()
	h := ask(t, path)
	_ = h.Sockets[0].File.Close()
	if err := h.Done(); err != nil {
		t.Error(err)
	}
	<-g.taken
	<-o.done
}
