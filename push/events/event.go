package events

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// The types of events.
const (
	ChannelOccupied    = "channel_occupied"
	ChannelVacated     = "channel_vacated"
	MemberJoined       = "member_joined"
	MemberLeft         = "member_left"
	CacheMiss          = "cache_miss"
	ClientConnected    = "client_connected"
	ClientDisconnected = "client_disconnected"
)

// OfChannels are the types of events that channels have, as options of theirs.
var OfChannels = map[string]hub.Events{
	ChannelOccupied: hub.EventOccupied, ChannelVacated: hub.EventVacated,
	MemberJoined: hub.EventJoined, MemberLeft: hub.EventLeft, CacheMiss: hub.EventCacheMiss,
}

// Batch is the body of a POST.
type Batch struct {
	// ID is the batch's; one that is sent again by the same process has the same.
	ID string `json:"batch"`
	// Node is the uid of the process in which the events happened.
	Node string `json:"node"`
	// Lost is how many events of the node, at most, are missing between the batch before and the last of this one.
	Lost   uint64  `json:"lost"`
	Events []Event `json:"events"`
}

// Event is something that happened.
type Event struct {
	// ID is the event's for ever.
	ID string `json:"id"`
	// Seq counts the events of the node.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	Body
}

// Body is what an event says; which fields there are depends on the type.
type Body struct {
	Type    string `json:"type"`
	Channel string `json:"channel,omitempty"`
	User    string `json:"user,omitempty"`
	Client  string `json:"client,omitempty"`
	Code    uint16 `json:"code,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Cause   string `json:"cause,omitempty"`
	// Inferred says that nobody saw it happen: it follows from the end of the process.
	Inferred bool `json:"inferred,omitempty"`
}

// opens is the tag of a record whose event begins what another event will end.
const opens = 1

// subject is what an event is about: what it begins, another event of the same subject ends.
type subject struct{ channel, user, client string }

func (b *Body) subject() subject {
	switch b.Type {
	case ChannelOccupied, ChannelVacated:
		return subject{channel: b.Channel}
	case MemberJoined, MemberLeft:
		return subject{channel: b.Channel, user: b.User}
	}
	return subject{client: b.Client}
}

// closing returns the event that ends what b began, when nobody saw it.
func (b Body) closing() Body {
	b.Inferred = true
	switch b.Type {
	case ChannelOccupied:
		b.Type = ChannelVacated
	case MemberJoined:
		b.Type = MemberLeft
	case ClientConnected:
		b.Type, b.Code, b.Cause = ClientDisconnected, codeAbnormal, "server_ended"
	}
	return b
}

// codeAbnormal is RFC 6455 §7.4.1's for a connection without a close frame.
const codeAbnormal = 1006

// encode returns the JSON of b, which is a record's data: what else an Event has is known by the record.
func (b Body) encode() []byte {
	data, err := json.Marshal(b)
	if err != nil {
		panic(err) // strings and numbers
	}
	return data
}

// appendEvent adds the JSON of an Event, whose Body is encoded.
func appendEvent(b []byte, node string, seq uint64, at int64, body []byte) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, node...)
	b = append(b, '-')
	b = strconv.AppendUint(b, seq, 10)
	b = append(b, `","seq":`...)
	b = strconv.AppendUint(b, seq, 10)
	b = append(b, `,"time":"`...)
	b = time.Unix(0, at).UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `",`...)
	return append(b, body[1:]...)
}
