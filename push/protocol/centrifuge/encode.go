package centrifuge

import (
	"encoding/json"
	"sync"
	"unicode/utf8"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/fossil"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// encoding is a way in which a publication is pushed.
type encoding uint8

const (
	encodingJSON encoding = iota
	encodingProtobuf
	encodingString // JSON with the data as a string: for subscribers with deltas
	encodingJSONDelta
	encodingProtobufDelta

	numEncodings
)

// hub returns the hub's number for it.
func (e encoding) hub() hub.Encoding {
	return [numEncodings]hub.Encoding{
		hub.EncodingCentrifugeJSON, hub.EncodingCentrifugeProtobuf, hub.EncodingCentrifugeString,
		hub.EncodingCentrifugeJSONDelta, hub.EncodingCentrifugeProtobufDelta,
	}[e]
}

// delta returns the encoding of differences for subscribers that get e for whole publications.
func (e encoding) delta() encoding {
	if e == encodingProtobuf {
		return encodingProtobufDelta
	}
	return encodingJSONDelta
}

func (e encoding) codec() wire.Codec {
	if e == encodingProtobuf || e == encodingProtobufDelta {
		return wire.Protobuf
	}
	return wire.JSON
}

// encoding is that of the client's publications, where it may have deltas or not.
func (c *Client[F]) encoding(delta bool) encoding {
	switch {
	case c.codec() == wire.Protobuf:
		return encodingProtobuf
	case delta:
		return encodingString
	}
	return encodingJSON
}

// pushBuilder returns the function that makes the frames of e. They are none for data that e's codec cannot carry.
func (h *Handler[F]) pushBuilder(e encoding) func(string, *hub.Publication) F {
	return func(channel string, p *hub.Publication) (f F) {
		buf := buffers.Get().(*[]byte)
		defer buffers.Put(buf)
		message := push(channel, p, e)
		b, err := e.codec().AppendReply((*buf)[:0], &wire.Reply{Push: message})
		if err != nil && p.Info != nil {
			stripPush(message)
			b, err = e.codec().AppendReply((*buf)[:0], &wire.Reply{Push: message})
		}
		if err != nil {
			return f
		}
		if cap(b) <= maxPooledBuffer {
			*buf = b
		}
		return h.frame(e.codec() == wire.JSON, b)
	}
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

func push(channel string, p *hub.Publication, e encoding) *wire.Push {
	out := &wire.Push{Channel: channel}
	switch p.Kind {
	case hub.KindJoin:
		out.Join = &wire.Join{Info: wireInfo(p.Info)}
	case hub.KindLeave:
		out.Leave = &wire.Leave{Info: wireInfo(p.Info)}
	default:
		out.Pub = publication(p, e)
	}
	return out
}

// publication returns p as encoding e has it.
func publication(p *hub.Publication, e encoding) *wire.Publication {
	out := &wire.Publication{Data: p.Data, Offset: p.Offset, Tags: p.Tags, Info: wireInfo(p.Info)}
	if base, ok := p.Base(); ok && e >= encodingJSONDelta {
		if patch := fossil.Create(base, p.Data); len(patch) < len(p.Data) && (e == encodingProtobufDelta || utf8.Valid(patch)) {
			out.Data, out.Delta = patch, true
		}
	}
	if e == encodingString || e == encodingJSONDelta {
		out.Data = jsonString(out.Data)
	}
	return out
}

// jsonString returns text as a JSON string, RFC 8259 §7; what is no UTF-8 as something that is no JSON at all.
func jsonString(text []byte) json.RawMessage {
	if !utf8.Valid(text) {
		return json.RawMessage("\xff")
	}
	return wire.AppendString(nil, string(text))
}

func (c *Client[F]) wirePublication(p *hub.Publication, delta bool) *wire.Publication {
	return publication(p, c.encoding(delta))
}

// wirePublications is for answers, which have data as it is.
func wirePublications(list []*hub.Publication) []*wire.Publication {
	out := make([]*wire.Publication, 0, len(list))
	for _, p := range list {
		out = append(out, publication(p, encodingProtobuf))
	}
	return out
}

func wireInfo(i *hub.ClientInfo) *wire.ClientInfo {
	if i == nil {
		return nil
	}
	return &wire.ClientInfo{User: i.User, Client: i.Client, ConnInfo: i.ConnInfo, ChanInfo: i.ChanInfo}
}
