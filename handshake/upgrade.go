package handshake

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"

	"github.com/gobwas/ws"
)

// Upgrader answers opening handshakes. Any number of goroutines may use it at once.
type Upgrader struct {
	// Immutable after New.
	routes     map[string]*route
	forwarding forwarding
	maxHeader  int

	// Any goroutine (atomic).
	attempts sync.Pool // of *attempt
}

// Result is what a handshake has agreed on.
type Result struct {
	// Route is the Upgrader's copy of the matching Route, which must not be changed.
	Route *Route
	// Subprotocol is one of the Route's, empty if none was chosen.
	Subprotocol string
	// Deflate is what was agreed on for the compression of messages.
	Deflate Agreement
	// ClientAddr is the client's address, as trusted proxies tell it. It is the zero
	// Addr on a unix socket without a proxy.
	ClientAddr netip.Addr
	// Data is what the Route's Accept returned.
	Data any
}

// MaxHeaderBytes returns the most bytes that a header may have. When so many have
// come and HeaderEnd has found no end, TooLarge has the answer.
func (u *Upgrader) MaxHeaderBytes() int { return u.maxHeader }

// Upgrade answers the request whose header is head, through the blank line and not
// further. peer is the other end of the socket, the zero AddrPort for a unix
// socket. The whole response is appended to dst in one go: a 101, after which both
// sides speak frames, or, when err is not nil, the response of err, which is always
// a *Fault and after which the connection is to be closed.
//
// head is only read, and not kept. Upgrade does not block. For a browser's request it
// allocates 32 bytes; a request that needs its origin matched with a pattern, or an
// IPv6 host read, costs an object more, and Accept what it does and is given. A panic
// of Accept passes through.
func (u *Upgrader) Upgrade(dst, head []byte, peer netip.AddrPort) (resp []byte, res Result, err error) {
	if len(head) > u.maxHeader {
		f := TooLarge(head[:u.maxHeader])
		return refuse(dst, head, f), Result{}, f
	}
	a := u.attempts.Get().(*attempt)
	resp, res, f := a.run(dst, head, peer.Addr())
	a.clear()
	u.attempts.Put(a)
	if f != nil {
		return refuse(dst, head, f), Result{}, f
	}
	return resp, res, nil
}

// refuse appends the fault's response.
func refuse(dst, head []byte, f *Fault) []byte {
	// RFC 9110 §9.3.2: "the server MUST NOT send content in the response" to HEAD.
	if bytes.HasPrefix(head, []byte(http.MethodHead+" ")) {
		return f.appendHeader(dst, len(f.reason())+1)
	}
	return f.AppendResponse(dst)
}

// attempt is one run of ws.Upgrader: what it reads from, what it writes to, and its
// callbacks. Binding them and growing the digest costs allocations, so attempts are
// pooled (BenchmarkUpgrade/browser: 1 allocation instead of 9, 900 ns less).
type attempt struct {
	// Immutable after newAttempt.
	u  *Upgrader
	ws ws.Upgrader

	// Owned by the goroutine that runs Upgrade.
	header      header
	head        []byte // the caller's
	in          []byte // what ws.Upgrader has yet to read
	out         []byte // the caller's dst and what ws.Upgrader has written
	peer        netip.Addr
	route       *route
	subprotocol string
	result      Result
	offer       offer   // that was accepted
	extension   []byte  // scratch of writeExtensions
	request     Request // here, for one on the heap would be as large as what a connection keeps, and leave holes among those
	refused     *Fault  // by judge
}

func newAttempt(u *Upgrader) *attempt {
	a := &attempt{u: u}
	// Negotiate is not set: ws.Upgrader would parse the field anew, and call it for each extension; see deflate.go.
	a.ws = ws.Upgrader{
		OnRequest:       a.onRequest,
		ProtocolCustom:  a.onProtocol,
		OnBeforeUpgrade: a.onBeforeUpgrade,
		Header:          ws.HandshakeHeaderFunc(a.writeExtensions),
	}
	return a
}

// clear drops everything that is not the attempt's own.
func (a *attempt) clear() {
	a.header = header{digest: a.header.digest[:0]}
	a.head, a.in, a.out, a.peer = nil, nil, nil, netip.Addr{}
	a.route, a.subprotocol, a.result, a.offer, a.refused = nil, "", Result{}, offer{}, nil
	a.request = Request{}
}

func (a *attempt) run(dst, head []byte, peer netip.Addr) ([]byte, Result, *Fault) {
	if f := a.header.parse(head); f != nil {
		return nil, Result{}, f
	}
	a.head, a.in, a.out, a.peer = head, a.header.digest, dst, peer
	// It writes to a.out, also when it refuses; that response is not ours.
	if _, err := a.ws.Upgrade(a); err != nil {
		return nil, Result{}, a.fault(err)
	}
	return a.out, a.result, nil
}

// Read gives ws.Upgrader the digest of the header.
func (a *attempt) Read(p []byte) (int, error) {
	if len(a.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, a.in)
	a.in = a.in[n:]
	return n, nil
}

// Write takes ws.Upgrader's response.
func (a *attempt) Write(p []byte) (int, error) {
	a.out = append(a.out, p...)
	return len(p), nil
}

// onRequest follows the request line.
func (a *attempt) onRequest([]byte) error {
	// RFC 6455 §4.2.2 asks for the path last, so that an unknown one is no fault yet.
	a.route = a.u.routes[string(a.header.path)]
	return nil
}

// onProtocol follows each Sec-WebSocket-Protocol field until it has returned a
// choice. parse has checked the field.
//
// RFC 6455 §4.2.2: "The value chosen MUST be derived from the client's handshake,
// specifically by selecting one of the values from the |Sec-WebSocket-Protocol|
// field that the server is willing to use for this connection (if any)." And: "if the server does not wish to agree
// to one of the suggested subprotocols, it MUST NOT send back a |Sec-WebSocket-Protocol| header field in its response".
func (a *attempt) onProtocol(value []byte) (string, bool) {
	if a.route == nil {
		return "", true
	}
	for len(value) > 0 {
		var element []byte
		element, value = cutElement(value)
		for _, s := range a.route.Subprotocols {
			if s == string(element) {
				a.subprotocol = s // the server's own string
				return s, true
			}
		}
	}
	return "", true
}

// onBeforeUpgrade follows a handshake that ws.Upgrader has found in order.
func (a *attempt) onBeforeUpgrade() (ws.HandshakeHeader, error) {
	if a.refused = a.judge(); a.refused != nil {
		return nil, errRefused
	}
	return ws.HandshakeHeaderString(""), nil
}

// errRefused stands for attempt.refused, because ws.Upgrader makes a response of its
// own from what an error says.
var errRefused = ws.RejectConnectionError(ws.RejectionStatus(http.StatusBadRequest))

func (a *attempt) judge() *Fault {
	h := &a.header
	switch {
	case !isKey(h.key):
		return ErrBadKey
	case a.route == nil:
		return ErrPath
	case !a.route.origins.Load().allow(h.origin, h.host):
		return ErrOrigin
	}
	a.result = Result{
		Route:       &a.route.Route,
		Subprotocol: a.subprotocol,
		ClientAddr:  a.u.forwarding.clientAddr(a.head, a.peer),
	}
	if d := a.route.Deflate; d != nil {
		a.result.Deflate, a.offer = d.negotiate(a.header.extensions[:a.header.extended])
	}
	if a.route.Accept == nil {
		return nil
	}
	return a.accept()
}

// accept asks the route's Accept.
func (a *attempt) accept() *Fault {
	a.request = Request{
		Path:         a.route.Path,
		RawQuery:     string(a.header.query),
		Host:         string(a.header.host),
		Origin:       string(a.header.origin),
		Subprotocols: offered(a.head, a.header.protocols),
		Subprotocol:  a.subprotocol,
		ClientAddr:   a.result.ClientAddr,
		head:         a.head,
	}
	data, err := a.route.Accept(&a.request)
	a.result.Data = data
	if err == nil {
		return nil
	}
	var f *Fault
	if !errors.As(err, &f) || f == nil {
		return &Fault{Status: http.StatusInternalServerError, Kind: KindInternal, Reason: ErrInternal.Reason, cause: err}
	}
	if f.Kind == "" {
		refused := *f
		refused.Kind = KindRefused
		f = &refused
	}
	return f
}

// fault turns the error of ws.Upgrader into ours. RFC 6455 §4.2.1: "If the server,
// while reading the handshake, finds that the client did not send a handshake that
// matches the description below ... the server MUST stop processing the client's
// handshake and return an HTTP response with an appropriate error code (such as 400
// Bad Request)."
func (a *attempt) fault(err error) *Fault {
	switch {
	case errors.Is(err, errRefused):
		return a.refused
	case errors.Is(err, ws.ErrHandshakeBadProtocol):
		return ErrHTTPVersion
	case errors.Is(err, ws.ErrHandshakeBadMethod):
		return ErrMethod
	case errors.Is(err, ws.ErrHandshakeBadHost):
		return ErrBadHost
	case errors.Is(err, ws.ErrHandshakeBadUpgrade):
		if a.header.upgrade.lines == 0 {
			return ErrUpgradeMissing
		}
		return ErrBadUpgrade
	case errors.Is(err, ws.ErrHandshakeBadConnection):
		return ErrBadConnection
	case errors.Is(err, ws.ErrHandshakeBadSecVersion):
		return ErrVersionMissing
	case errors.Is(err, ws.ErrHandshakeUpgradeRequired):
		return ErrVersion
	case errors.Is(err, ws.ErrHandshakeBadSecKey):
		return ErrBadKey
	}
	return ErrBadHeader
}
