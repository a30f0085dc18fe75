package centrifuge

import (
	"encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// This file has what becomes of bytes that are not JSON and are for a client of that: a backend, or a client of Protobuf, may publish any. Live ones of
// a backend end the connection, as the protocol says. What others have published or left behind does not: the client goes on without it,
// and hears of it where it may rely on missing nothing.

// isJSON reports whether data can be put into a JSON message.
func isJSON(data []byte) bool { return utf8.Valid(data) && json.Valid(data) }

// untoldByBackend reports whether p is a message of a backend's that cannot be told.
func untoldByBackend(p *hub.Publication) bool {
	return p.Kind == hub.KindMessage && p.Info == nil && !isJSON(p.Data)
}

// canTell reports whether the client can be sent all that it wants of publications.
func (c *Client[F]) canTell(j *joining, publications []*hub.Publication) bool {
	if c.codec() == wire.Protobuf {
		return true
	}
	can := isJSON
	if j.special.delta {
		can = utf8.Valid // as a string
	}
	for _, p := range publications {
		if !can(p.Data) && (j.special.filter == nil || matches(j.special.filter, p.Tags)) {
			c.handler.untold.Add(1)
			return false
		}
	}
	return true
}

// appendPush adds a push to a frame; without what is not JSON if the client's codec needs that.
func (c *Client[F]) appendPush(b []byte, p *wire.Push) ([]byte, error) {
	out, err := c.codec().AppendReply(b, &wire.Reply{Push: p})
	if err == nil {
		return out, nil
	}
	stripPush(p)
	return c.codec().AppendReply(b, &wire.Reply{Push: p})
}

// strip removes from a reply what others have brought in and is not JSON: publications of a history, and what clients are said to be.
func strip(r *wire.Reply) {
	if r.History != nil {
		r.History.Publications = slices.DeleteFunc(r.History.Publications, func(p *wire.Publication) bool { return !isJSON(p.Data) })
		stripPublications(r.History.Publications)
	}
	if r.Subscribe != nil {
		stripPublications(r.Subscribe.Publications)
	}
	if r.Connect != nil {
		for _, s := range r.Connect.Subs {
			stripPublications(s.Publications)
		}
	}
	if r.Presence != nil {
		for _, info := range r.Presence.Presence {
			stripInfo(info)
		}
	}
}

// stripPush does it for a push, but for a publication's data.
func stripPush(p *wire.Push) {
	switch {
	case p.Pub != nil:
		stripInfo(p.Pub.Info)
	case p.Join != nil:
		stripInfo(p.Join.Info)
	case p.Leave != nil:
		stripInfo(p.Leave.Info)
	case p.Subscribe != nil && !isJSON(p.Subscribe.Data):
		p.Subscribe.Data = nil
	}
}

func stripPublications(list []*wire.Publication) {
	for _, p := range list {
		stripInfo(p.Info)
	}
}

func stripInfo(i *wire.ClientInfo) {
	if i == nil {
		return
	}
	if !isJSON(i.ConnInfo) {
		i.ConnInfo = nil
	}
	if !isJSON(i.ChanInfo) {
		i.ChanInfo = nil
	}
}
