package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/poller"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// dialect is what the speakers of a process share: where they connect to, and how they speak.
type dialect struct {
	// Immutable after newDialect.
	poller        *poller.Poller
	protocol      Protocol
	target        netip.AddrPort
	tls           *tls.Config // nil without
	request       []byte      // nil if they differ:
	requestOf     template
	accept        []byte
	codec         wire.Codec
	options       codec.Options
	receiveBuffer int    // SO_RCVBUF; 0 leaves it to the kernel
	ping          []byte // as it comes; nil if the protocol has none
	pong          []byte // as it goes, masked
	hello         []byte // what is sent when the connection is open, masked; nil for nothing, or if they differ:
	helloOf       func(number int) ([]byte, error)
	greeted       bool // the server answers that, and then the connection is ready
	raw           *raw // nil with another protocol
	tokens        tokens

	// Any goroutine (atomic).
	reads atomic.Int64 // by those who are ready
	wired atomic.Int64 // connections that are not closed
}

// tokens are the clients'.
type tokens struct {
	list   []string
	secret []byte
}

func (t tokens) none() bool { return len(t.list) == 0 && len(t.secret) == 0 }

// of returns the token of connection n, empty if it has none.
func (t tokens) of(n int) (string, error) {
	if len(t.list) > 0 {
		return t.list[n%len(t.list)], nil
	}
	if len(t.secret) == 0 {
		return "", nil
	}
	now := time.Now()
	claims := jwt.MapClaims{"sub": "bench-" + strconv.Itoa(n), "iat": now.Unix(), "exp": now.Add(tokenTTL).Unix()}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(t.secret)
}

// tokenTTL is how long signed tokens are good: longer than a run.
const tokenTTL = 31 * 24 * time.Hour

// maxReplyBytes is what one message of the server may have: the recovery of a long absence.
const maxReplyBytes = 16 << 20

// newDialect is for connections to t that speak as o says. All headers, subprotocols and tokens are o's.
func (t Target) newDialect(ctx context.Context, p *poller.Poller, o *Options) (*dialect, error) {
	addr, host, path, err := t.resolve(ctx)
	if err != nil {
		return nil, err
	}
	d := &dialect{
		poller: p, protocol: o.Protocol, target: addr, accept: acceptKey(), codec: wire.JSON,
		options: codec.Options{MaxMessageBytes: maxReplyBytes, Client: true},
		tokens:  tokens{o.Tokens, o.TokenSecret},
	}
	if d.tls, err = t.dialTLS(); err != nil {
		return nil, err
	}
	if err := d.greet(o); err != nil {
		return nil, err
	}
	d.requestOf = newTemplate(d.head(o, host, path))
	if !d.requestOf.has("n") && !d.requestOf.has("token") {
		d.request = d.requestOf.append(nil, fill{})
	}
	return d, nil
}

// greet prepares what is said first in the protocol.
func (d *dialect) greet(o *Options) (err error) {
	switch d.protocol {
	case ProtocolRaw:
		if d.raw, err = o.Raw.compile(o.Size); err != nil {
			return err
		}
		d.greeted = d.raw.ready != nil
		if open := d.raw.open; len(open) > 0 {
			d.helloOf = func(n int) ([]byte, error) {
				token, err := d.tokens.of(n)
				return maskedFrame(d.raw.text, open.append(nil, fill{n: n, token: token})), err
			}
		}
	case ProtocolJSON, ProtocolProtobuf:
		d.greeted, d.ping = true, []byte("{}")
		if d.protocol == ProtocolProtobuf {
			d.codec, d.ping = wire.Protobuf, []byte{0}
		}
		d.pong = d.mask(d.ping) // both are the empty message
		connect := func(n int) ([]byte, error) {
			token, err := d.tokens.of(n)
			if err != nil {
				return nil, err
			}
			return d.frame(&wire.Command{Id: helloID, Connect: &wire.ConnectRequest{Name: "bench", Token: token}})
		}
		if d.helloOf = connect; d.tokens.none() {
			d.hello, err = connect(0)
		}
	}
	return err
}

// head is the opening request, in which {n} and {token} are the connection's.
func (d *dialect) head(o *Options, host, path string) string {
	subprotocol := o.Subprotocol
	if subprotocol == "" && d.protocol == ProtocolProtobuf {
		subprotocol = protobufSubprotocol
	}
	headers := o.Headers
	if !d.tokens.none() {
		switch named := strings.Join(headers, "") + path; {
		case d.protocol.centrifuge(): // it is in the connect command
		case strings.Contains(named, "{token}"), d.raw != nil && d.raw.open.has("token"):
		case d.protocol == ProtocolPlain:
			separator := "?"
			if strings.Contains(path, "?") {
				separator = "&"
			}
			path += separator + "token={token}"
		default:
			headers = append([]string{"Authorization: Bearer {token}"}, headers...)
		}
	}
	if o.Origin != "" {
		headers = append([]string{"Origin: " + o.Origin}, headers...)
	}
	return string(appendRequest(nil, host, path, subprotocol, headers...))
}

// helloID is the connect command's. Listeners use higher ones.
const helloID = 1

// frame makes one message of the commands.
func (d *dialect) frame(commands ...*wire.Command) (payload []byte, err error) {
	for _, c := range commands {
		if payload, err = d.codec.AppendCommand(payload, c); err != nil {
			return nil, err
		}
	}
	return d.mask(payload), nil
}

func (d *dialect) mask(payload []byte) []byte { return maskedFrame(d.codec != wire.Protobuf, payload) }

// maskedFrame is a whole message as it goes.
func maskedFrame(text bool, payload []byte) []byte {
	op := codec.OpText
	if !text {
		op = codec.OpBinary
	}
	return codec.AppendMaskedFrame(nil, op, true, payload, [4]byte{0x6d, 0x70, 0x62, 0x21})
}

// opener returns the request of connection n.
func (d *dialect) opener(n int) ([]byte, error) {
	if d.request != nil {
		return d.request, nil
	}
	token, err := d.tokens.of(n)
	return d.requestOf.append(nil, fill{n: n, token: token}), err
}

// greeting returns what connection n says when it is open, nil for nothing.
func (d *dialect) greeting(n int) ([]byte, error) {
	if d.hello != nil || d.helloOf == nil {
		return d.hello, nil
	}
	return d.helloOf(n)
}

// welcome tells whether a message is the answer to the greeting.
func (d *dialect) welcome(payload []byte) (bool, error) {
	if d.raw != nil {
		return d.raw.ready.Match(payload), nil
	}
	for r, err := range d.codec.Replies(payload) {
		switch {
		case err != nil:
			return false, err
		case r.Error != nil:
			return false, fmt.Errorf("connect: error %d %s", r.Error.Code, r.Error.Message)
		case r.Id != helloID || r.Connect == nil:
			return false, errSurplus
		}
	}
	return true, nil
}

// reply returns what a message must be answered with at once, such as a ping of the protocol.
func (d *dialect) reply(payload []byte) ([]byte, bool) {
	switch {
	case d.raw != nil:
		return d.raw.answer(payload)
	case d.ping != nil && bytes.Equal(payload, d.ping):
		return d.pong, true
	}
	return nil, false
}
