package handshake

import (
	"fmt"
	"io"
	"strconv"
)

// The bounds of a window's size, as the exponent of 2. RFC 7692 §7.1.2.1.
const (
	minWindowBits = 8
	maxWindowBits = 15
)

// Deflate is how a Route accepts permessage-deflate, RFC 7692. Its zero value accepts any offer, and lets neither
// side refer to messages before, so that nothing has to be kept between them.
type Deflate struct {
	// ContextTakeover lets both sides refer to the messages before, unless the client's offer excludes it. The
	// server then keeps a window for each direction.
	ContextTakeover bool

	// WindowBits bounds these windows, as the exponent of 2: 8 to 15. A client that does not let its own be bounded
	// has to do without context. Zero means 15.
	WindowBits int
}

func (d *Deflate) validate() error {
	if d.WindowBits != 0 && (d.WindowBits < minWindowBits || d.WindowBits > maxWindowBits) {
		return fmt.Errorf("compression-window-bits: %d is not between %d and %d", d.WindowBits, minWindowBits, maxWindowBits)
	}
	return nil
}

// bits is the bound of the windows that the server has to keep.
func (d *Deflate) bits() uint8 {
	if !d.ContextTakeover || d.WindowBits == 0 {
		return maxWindowBits
	}
	return uint8(d.WindowBits)
}

// Agreement is what both sides agreed on for permessage-deflate.
type Agreement struct {
	// Deflate says that there is an agreement; everything else is zero without it.
	Deflate bool
	// ServerTakeover and ClientTakeover say whose messages may refer to those it sent before.
	ServerTakeover, ClientTakeover bool
	// ServerBits and ClientBits bound how far back a message may refer, as the exponent of 2.
	ServerBits, ClientBits uint8
}

// offer is one permessage-deflate of a client's list.
type offer struct {
	serverNoTakeover, clientNoTakeover bool
	serverBits                         uint8 // 0: not offered
	clientBits                         uint8 // 0: not offered
}

// negotiate returns the agreement on the first offer that is in order. The values are those of
// the request's Sec-WebSocket-Extensions fields. RFC 6455 §4.2.2: "Extensions not listed by the client MUST NOT be
// listed." RFC 7692 §5: an offer that can't be accepted is declined, and the
// next one is looked at.
func (d *Deflate) negotiate(values [][]byte) (a Agreement, o offer) {
	for _, list := range values {
		for len(list) > 0 {
			var name, params []byte
			if name, params, list = cutExtension(list); string(name) != "permessage-deflate" {
				continue
			}
			if o, ok := parseOffer(params); ok {
				return d.agree(o), o
			}
		}
	}
	return Agreement{}, offer{}
}

func (d *Deflate) agree(o offer) Agreement {
	a := Agreement{
		Deflate:        true,
		ServerTakeover: d.ContextTakeover && !o.serverNoTakeover,
		ClientTakeover: d.ContextTakeover && !o.clientNoTakeover,
		ServerBits:     d.bits(), ClientBits: maxWindowBits,
	}
	if o.serverBits > 0 {
		a.ServerBits = min(a.ServerBits, o.serverBits)
	}
	if a.ClientTakeover && d.bits() < maxWindowBits {
		// RFC 7692 §7.1.2.2: "If a received extension negotiation offer doesn't have the "client_max_window_bits"
		// extension parameter, the corresponding extension negotiation response to the offer MUST NOT include the
		// "client_max_window_bits" extension parameter."
		if o.clientBits == 0 {
			a.ClientTakeover = false
		} else {
			a.ClientBits = min(d.bits(), o.clientBits)
		}
	}
	return a
}

// parseOffer reads the parameters of one offer and reports whether it can be accepted. RFC 7692 §7.1: "A server MUST
// decline an extension negotiation offer for this extension if" it has an unknown parameter, one with a wrong
// value, or one twice.
func parseOffer(params []byte) (o offer, ok bool) {
	for len(params) > 0 {
		var name, value []byte
		name, value, params = cutParam(params)
		switch string(name) {
		case "server_no_context_takeover":
			ok = value == nil && !o.serverNoTakeover
			o.serverNoTakeover = true
		case "client_no_context_takeover":
			ok = value == nil && !o.clientNoTakeover
			o.clientNoTakeover = true
		case "server_max_window_bits":
			ok = o.serverBits == 0
			o.serverBits = parseBits(value)
			ok = ok && o.serverBits > 0
		case "client_max_window_bits":
			ok = o.clientBits == 0
			if o.clientBits = maxWindowBits; value != nil {
				o.clientBits = parseBits(value)
			}
			ok = ok && o.clientBits > 0
		default:
			ok = false
		}
		if !ok {
			return offer{}, false
		}
	}
	return o, true
}

// parseBits returns 8 to 15, or 0 for anything else. RFC 7692 §7.1.2.1: "a decimal integer value without leading
// zeroes between 8 to 15, inclusive".
func parseBits(value []byte) uint8 {
	switch {
	case len(value) == 1 && (value[0] == '8' || value[0] == '9'):
		return value[0] - '0'
	case len(value) == 2 && value[0] == '1' && value[1] >= '0' && value[1] <= '5':
		return 10 + value[1] - '0'
	}
	return 0
}

// writeExtensions writes the response's Sec-WebSocket-Extensions field, if there is something agreed on.
func (a *attempt) writeExtensions(w io.Writer) (int64, error) {
	agreed := &a.result.Deflate
	if !agreed.Deflate {
		return 0, nil
	}
	b := append(a.extension[:0], "Sec-WebSocket-Extensions: permessage-deflate"...)
	if !agreed.ServerTakeover {
		b = append(b, "; server_no_context_takeover"...)
	}
	if !agreed.ClientTakeover {
		b = append(b, "; client_no_context_takeover"...)
	}
	// RFC 7692 §7.1.2.1: a server accepts an offer of server_max_window_bits by including it "with the same or
	// smaller value as the offer".
	if a.offer.serverBits > 0 || agreed.ServerBits < maxWindowBits {
		b = append(b, "; server_max_window_bits="...)
		b = strconv.AppendUint(b, uint64(agreed.ServerBits), 10)
	}
	if agreed.ClientBits < maxWindowBits {
		b = append(b, "; client_max_window_bits="...)
		b = strconv.AppendUint(b, uint64(agreed.ClientBits), 10)
	}
	a.extension = append(b, "\r\n"...)
	n, err := w.Write(a.extension)
	return int64(n), err
}

// maxExtensionFields bounds the Sec-WebSocket-Extensions fields whose offers are looked at; clients send one. What
// further ones offer is declined.
const maxExtensionFields = 4
