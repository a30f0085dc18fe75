package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/millpond/millpond/push/takeover"
	"github.com/millpond/millpond/session"
)

// listen opens the listeners, or takes those that another process has.
func (s *Server) listen() (err error) {
	inherited := &inherited{unnamed: s.config.Inherited}
	if s.config.Takeover != "" {
		if s.handover, err = takeover.Ask(context.Background(), s.config.Takeover); err != nil {
			return errors.Join(err, inherited.close())
		}
	}
	if s.handover != nil {
		s.config.Logger.Info("taking over", "pid", s.handover.PID, "sockets", len(s.handover.Sockets))
		inherited.named = s.handover.Sockets
		s.adoptState(s.handover.State)
	}
	defer func() { err = errors.Join(err, inherited.close()) }()
	for _, address := range s.config.Listen {
		l, err := s.listenPublic(address, inherited.take(address))
		if err != nil {
			return err
		}
		s.public = append(s.public, l)
		s.addrs = append(s.addrs, l.Addr())
	}
	if !s.config.shared() {
		if s.internal, err = s.newInternalSide(inherited.take(s.config.InternalListen)); err != nil {
			return err
		}
	}
	return inherited.unused()
}

// listenPublic makes a listener of the address, or of a file that has it already.
func (s *Server) listenPublic(address string, file *os.File) (*session.Listener, error) {
	if file != nil {
		return session.ListenFile(file, s.config.Socket)
	}
	return session.Listen(strings.TrimPrefix(address, plainPrefix), s.config.Socket)
}

// inherited are listening sockets that another process has opened.
type inherited struct {
	named   []takeover.Socket // by the address in that process's configuration
	unnamed []*os.File        // systemd's, told apart by the addresses they have
}

// take returns the socket for an address of the configuration, or nil.
func (in *inherited) take(address string) *os.File {
	address = strings.TrimPrefix(address, plainPrefix)
	for i, s := range in.named {
		if strings.TrimPrefix(s.Address, plainPrefix) == address {
			in.named = slices.Delete(slices.Clone(in.named), i, i+1)
			return s.File
		}
	}
	for i, f := range in.unnamed {
		if sameAddress(address, f) {
			in.unnamed = slices.Delete(slices.Clone(in.unnamed), i, i+1)
			return f
		}
	}
	return nil
}

// unused complains of systemd's sockets that nobody has asked for: clients would connect to them and never be accepted. Those of
// a process before may have gone out of the configuration.
func (in *inherited) unused() error {
	var errs []error
	for _, f := range in.unnamed {
		errs = append(errs, fmt.Errorf("listen: the inherited socket %s is neither one of them nor internal-listen", fileAddress(f)))
	}
	return errors.Join(errs...)
}

func (in *inherited) close() error {
	var errs []error
	for _, s := range in.named {
		errs = append(errs, s.File.Close())
	}
	for _, f := range in.unnamed {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// fileAddress is the address that a socket has: "unix:PATH" or "HOST:PORT".
func fileAddress(f *os.File) string {
	l, err := net.FileListener(f)
	if err != nil {
		return f.Name()
	}
	defer func() { _ = l.Close() }()
	if unix, ok := l.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
		return "unix:" + l.Addr().String()
	}
	return l.Addr().String()
}

// sameAddress reports whether the socket is what address asks for. All addresses of a host are the same, however
// they are written.
func sameAddress(address string, f *os.File) bool {
	has := fileAddress(f)
	if strings.HasPrefix(address, "unix:") {
		return address == has
	}
	want, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return false
	}
	got, err := netip.ParseAddrPort(has)
	if err != nil || int(got.Port()) != want.Port {
		return false
	}
	ip, ok := netip.AddrFromSlice(want.IP)
	if ip = ip.Unmap(); !ok || ip.IsUnspecified() {
		return got.Addr().IsUnspecified()
	}
	return ip == got.Addr().Unmap()
}

// state is what a process that takes over is told beside the sockets.
type state struct {
	TicketKeys [][32]byte `json:"ticket_keys"`
}

func (s *Server) adoptState(b []byte) {
	var st state
	if err := json.Unmarshal(b, &st); err != nil {
		s.config.Logger.Warn("takeover: state not understood", "error", err)
		return
	}
	if s.certs != nil {
		s.certs.AdoptTicketKeys(st.TicketKeys)
	}
}

// giver gives the sockets away; it is a Server as package takeover sees it.
type giver Server

// Give implements takeover.Giver.
func (g *giver) Give() (sockets []takeover.Socket, b []byte, err error) {
	s := (*Server)(g)
	for i, l := range s.public {
		f, err := l.File()
		if err != nil {
			return sockets, nil, err
		}
		sockets = append(sockets, takeover.Socket{Address: s.config.Listen[i], File: f})
	}
	if s.internal != nil {
		f, err := s.internal.listener.File()
		if err != nil {
			return sockets, nil, err
		}
		sockets = append(sockets, takeover.Socket{Address: s.config.InternalListen, File: f})
	}
	var st state
	if s.certs != nil {
		st.TicketKeys = s.certs.TicketKeys()
	}
	b, err = json.Marshal(st)
	return sockets, b, err
}

// Taken implements takeover.Giver: the other process serves, so no more is accepted here.
func (g *giver) Taken() {
	s := (*Server)(g)
	for _, l := range s.public {
		l.Share()
	}
	if s.internal != nil {
		s.internal.stopAccepting()
	}
	close(s.taken)
}

// Taken is closed when another process has taken the listeners over. What is left to do is Drain, without a grace time, and
// Shutdown.
func (s *Server) Taken() <-chan struct{} { return s.taken }

// handOn completes the takeover of the process before, and offers the listeners to the one after.
func (s *Server) handOn() (err error) {
	if s.handover != nil {
		if err := s.handover.Done(); err != nil {
			s.config.Logger.Warn("takeover: the old process is gone", "error", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config.Takeover != "" && !s.down {
		s.offer, err = takeover.Listen(s.config.Takeover, (*giver)(s), s.config.Logger)
	}
	return err
}

// closeOffer ends what handOn began.
func (s *Server) closeOffer() error {
	s.mu.Lock()
	offer := s.offer
	s.offer, s.down = nil, true
	s.mu.Unlock()
	if offer == nil {
		return nil
	}
	return offer.Close()
}
