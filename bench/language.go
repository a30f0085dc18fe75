package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// This file is what subscribers say and hear, in each of the protocols that have channels.

// position is where a subscription goes on.
type position struct {
	epoch  string
	offset uint64
}

// subscribing returns the command that subscribes to a channel, masked; since is nil the first time.
func (d *dialect) subscribing(id uint32, channel string, since *position) ([]byte, error) {
	if d.protocol == ProtocolPlain {
		payload := map[string]any{"channel": channel}
		if since != nil {
			payload["since"] = map[string]any{"offset": since.offset, "epoch": since.epoch}
		}
		return d.plainCommand("subscribe", id, payload)
	}
	s := &wire.SubscribeRequest{Channel: channel}
	if since != nil {
		s.Recover, s.Epoch, s.Offset = true, since.epoch, since.offset
	}
	return d.frame(&wire.Command{Id: id, Subscribe: s})
}

// unsubscribing returns the command that ends a subscription, masked.
func (d *dialect) unsubscribing(id uint32, channel string) ([]byte, error) {
	if d.protocol == ProtocolPlain {
		return d.plainCommand("unsubscribe", id, map[string]any{"channel": channel})
	}
	return d.frame(&wire.Command{Id: id, Unsubscribe: &wire.UnsubscribeRequest{Channel: channel}})
}

// asking returns the command that asks who is in a channel, masked.
func (d *dialect) asking(id uint32, channel string) ([]byte, error) {
	if d.protocol == ProtocolPlain {
		return d.plainCommand("presence", id, map[string]any{"channel": channel})
	}
	return d.frame(&wire.Command{Id: id, Presence: &wire.PresenceRequest{Channel: channel}})
}

func (d *dialect) plainCommand(kind string, id uint32, payload any) ([]byte, error) {
	b, err := json.Marshal(map[string]any{"type": kind, "id": id, "payload": payload})
	return d.mask(b), err
}

// heard is what a server says to a subscriber. Its strings are its own, and the data points into the message.
type heard struct {
	kind    heardKind
	id      uint32 // of the command that is answered, 0 without
	channel string // of publications and ends
	code    uint32 // of ends and errors
	text    string // of those
	at      position
	asked   bool // the answer says whether it recovered
	resumed bool // and it did
	pubs    []published
	clients int // of an answer to who is there
}

// published is a publication as it came.
type published struct {
	offset uint64
	data   []byte
}

type heardKind uint8

const (
	heardOther       heardKind = iota // nothing that matters to a subscriber
	heardPublication                  // one of pubs
	heardAnswer                       // to the command of that id: of a subscribe with at, and pubs that were missed; of asking, with clients
	heardError                        // to the command of that id
	heardEnd                          // the server ends the subscription
)

// hear reads one message of the server.
func (d *dialect) hear(payload []byte, yield func(*heard) error) error {
	if d.protocol == ProtocolPlain {
		h, err := hearPlain(payload)
		if err != nil {
			return err
		}
		return yield(h)
	}
	for r, err := range d.codec.Replies(payload) {
		if err == nil {
			err = yield(hearReply(r))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func hearReply(r *wire.Reply) *heard {
	h := &heard{id: r.Id}
	switch {
	case r.Error != nil:
		h.kind, h.code, h.text = heardError, r.Error.Code, r.Error.Message
	case r.Subscribe != nil:
		s := r.Subscribe
		h.kind, h.at, h.asked, h.resumed = heardAnswer, position{s.Epoch, s.Offset}, s.WasRecovering, s.Recovered
		for _, p := range s.Publications {
			h.pubs = append(h.pubs, published{p.Offset, p.Data})
		}
	case r.Presence != nil:
		h.kind, h.clients = heardAnswer, len(r.Presence.Presence)
	case r.Push != nil && r.Push.Pub != nil:
		h.kind, h.channel, h.pubs = heardPublication, r.Push.Channel, []published{{r.Push.Pub.Offset, r.Push.Pub.Data}}
	case r.Push != nil && r.Push.Unsubscribe != nil:
		h.kind, h.channel, h.code, h.text = heardEnd, r.Push.Channel, r.Push.Unsubscribe.Code, r.Push.Unsubscribe.Reason
	case r.Id > 0:
		h.kind = heardAnswer
	}
	return h
}

// plainMessage is any message of the plain protocol.
type plainMessage struct {
	Type      string          `json:"type"`
	ID        uint32          `json:"id"`
	Channel   string          `json:"channel"`
	Offset    uint64          `json:"offset"`
	Epoch     string          `json:"epoch"`
	Recovered *bool           `json:"recovered"`
	Data      json.RawMessage `json:"data"`
	Code      uint32          `json:"code"`
	Message   string          `json:"message"`

	Clients []json.RawMessage `json:"clients"`
}

var errNotPlain = errors.New("a message is not of the plain protocol")

func hearPlain(payload []byte) (*heard, error) {
	var m plainMessage
	if err := json.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotPlain, err)
	}
	h := &heard{id: m.ID, channel: m.Channel, code: m.Code, text: m.Message, at: position{m.Epoch, m.Offset}}
	switch m.Type {
	case "message":
		h.kind, h.pubs = heardPublication, []published{{m.Offset, m.Data}}
	case "reply":
		h.kind, h.clients = heardAnswer, len(m.Clients)
		if m.Recovered != nil {
			h.asked, h.resumed = true, *m.Recovered
		}
	case "error":
		h.kind = heardError
	case "unsubscribed":
		h.kind = heardEnd
	case "":
		return nil, errNotPlain
	}
	return h, nil
}

// pushed is the message in which a server that does not know channels would send a publication: the yardstick's.
func (d *dialect) pushed(b []byte, channel string, offset uint64, data []byte) ([]byte, error) {
	if d.protocol != ProtocolPlain {
		return d.codec.AppendReply(b, &wire.Reply{Push: &wire.Push{Channel: channel, Pub: &wire.Publication{Data: data, Offset: offset}}})
	}
	b = strconv.AppendQuote(append(b, `{"type":"message","channel":`...), channel)
	b = strconv.AppendUint(append(b, `,"offset":`...), offset, 10)
	return append(append(append(b, `,"data":`...), data...), '}'), nil
}
