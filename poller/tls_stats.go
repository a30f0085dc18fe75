package poller

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// This file counts how TLS handshakes end.

// handshakes counts what became of TLS handshakes.
type handshakes struct {
	complete [2][2]atomic.Int64 // TLS 1.2 or 1.3; full or resumed
	failures [numTLSFailures]atomic.Int64
}

// TLSFailure says why a TLS handshake failed.
type TLSFailure uint8

// The reasons.
const (
	// TLSNotSpoken: the peer sent no TLS record, but plain HTTP, say.
	TLSNotSpoken TLSFailure = iota
	// TLSCertificate: the peer's certificate is missing, or not to be trusted.
	TLSCertificate
	// TLSAlert: the peer did not want to go on, and said so.
	TLSAlert
	// TLSGone: the peer closed the connection, or the deadline did.
	TLSGone
	// TLSProtocol: no version, cipher suite or protocol in common, or a fault of the peer's.
	TLSProtocol
	numTLSFailures
)

var tlsFailures = [numTLSFailures]string{"not_tls", "certificate", "alert", "gone", "protocol"}

// String returns the name that metrics have.
func (f TLSFailure) String() string { return tlsFailures[f] }

func (h *handshakes) done(state tls.ConnectionState) {
	version, resumed := 0, 0
	if state.Version == tls.VersionTLS13 {
		version = 1
	}
	if state.DidResume {
		resumed = 1
	}
	h.complete[version][resumed].Add(1)
}

func (h *handshakes) failed(err error) { h.failures[tlsFailure(err)].Add(1) }

func tlsFailure(err error) TLSFailure {
	var header tls.RecordHeaderError
	var certificate *tls.CertificateVerificationError
	var op *net.OpError
	switch {
	case errors.As(err, &header) && header.Conn != nil: // the first record
		return TLSNotSpoken
	case errors.As(err, &certificate), err != nil && err.Error() == "tls: client didn't provide a certificate":
		return TLSCertificate
	case errors.As(err, &op) && op.Op == "remote error":
		return TLSAlert
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return TLSGone
	}
	return TLSProtocol
}

// TLSStats count the ends of TLS handshakes since New.
type TLSStats struct {
	Complete map[TLSKind]int64
	Running  int // that compute now
	Queued   int // that wait to compute
	Failures map[string]int64
}

// TLSKind tells handshakes apart.
type TLSKind struct {
	Version string // "1.2" or "1.3"
	Resumed bool
}

// TLSStats returns the counts; any goroutine.
func (p *Poller) TLSStats() TLSStats {
	s := TLSStats{Complete: map[TLSKind]int64{}, Running: len(p.shaking), Queued: int(p.queued.Load()), Failures: map[string]int64{}}
	for i, version := range []string{"1.2", "1.3"} {
		s.Complete[TLSKind{version, false}] = p.tls.complete[i][0].Load()
		s.Complete[TLSKind{version, true}] = p.tls.complete[i][1].Load()
	}
	for i := range p.tls.failures {
		s.Failures[tlsFailures[i]] = p.tls.failures[i].Load()
	}
	return s
}
