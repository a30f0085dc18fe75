package plain

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/millpond/millpond/push/hub"
)

// The append functions add one message to b and return it. It is one JSON
// object in valid UTF-8, whatever the arguments.

// appendPublication adds a message or an event.
func appendPublication(b []byte, channel string, p *hub.Publication) []byte {
	switch p.Kind {
	case hub.KindJoin:
		return appendEvent(b, "join", channel, p)
	case hub.KindLeave:
		return appendEvent(b, "leave", channel, p)
	}
	return appendMessage(b, channel, p)
}

func appendEvent(b []byte, name, channel string, p *hub.Publication) []byte {
	b = append(b, `{"type":"`...)
	b = append(b, name...)
	b = append(b, `","channel":`...)
	b = appendString(b, channel)
	b = append(b, `,"info":`...)
	b = appendInfo(b, p.Info)
	return append(b, '}')
}

// appendInfo adds a client as others see it. What it is said to be besides is left out if it is not JSON.
func appendInfo(b []byte, info *hub.ClientInfo) []byte {
	b = append(b, `{"user":`...)
	b = appendString(b, info.User)
	b = append(b, `,"client":`...)
	b = appendString(b, info.Client)
	b = appendValid(b, `,"info":`, info.ConnInfo)
	b = appendValid(b, `,"chan_info":`, info.ChanInfo)
	return append(b, '}')
}

// appendValid adds a member whose value is JSON, or nothing if it is not.
func appendValid(b []byte, name string, value []byte) []byte {
	if !json.Valid(value) {
		return b
	}
	compacted := bytes.NewBuffer(append(b, name...))
	_ = json.Compact(compacted, value) // it is valid
	return compacted.Bytes()
}

// appendMessage adds a publication. Its data is compacted if it is JSON, and
// in base64 if not: other protocols may publish any bytes.
func appendMessage(b []byte, channel string, p *hub.Publication) []byte {
	b = slices.Grow(b, 64+len(channel)+len(p.Data))
	b = append(b, `{"type":"message","channel":`...)
	b = appendString(b, channel)
	b = append(b, ',')
	b = appendContent(b, p)
	return append(b, '}')
}

// appendContent adds the members of a message that are the same in a channel's history.
func appendContent(b []byte, p *hub.Publication) []byte {
	b = append(b, `"offset":`...)
	b = strconv.AppendUint(b, p.Offset, 10)
	b = appendData(b, p.Data)
	if len(p.Tags) > 0 {
		b = appendTags(b, p.Tags)
	}
	return b
}

func appendData(b, data []byte) []byte {
	if utf8.Valid(data) {
		compacted := bytes.NewBuffer(append(b, `,"data":`...))
		if json.Compact(compacted, data) == nil {
			return compacted.Bytes()
		}
	}
	b = append(b, `,"b64data":"`...)
	b = base64.StdEncoding.AppendEncode(b, data)
	return append(b, '"')
}

func appendTags(b []byte, tags map[string]string) []byte {
	b = append(b, `,"tags":{`...)
	for i, key := range slices.Sorted(maps.Keys(tags)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, key)
		b = append(b, ':')
		b = appendString(b, tags[key])
	}
	return append(b, '}')
}

// appendReply adds the answer to subscribe, with where the channels stand if they have a history, and to unsubscribe,
// with no joined.
func appendReply(b []byte, id rawID, channels channels, made []joined) []byte {
	b = appendOK(b, id)
	if !channels.plural {
		b = append(b, `,"channel":`...)
		b = appendString(b, channels.list[0])
		if len(made) > 0 && made[0].recovery.From.Epoch != "" {
			b = append(b, ',')
			b = appendPosition(b, made[0])
		}
		return append(appendValid(b, `,"data":`, channels.grants[channels.list[0]].Data), '}')
	}
	b = appendChannels(b, channels)
	comma := `,"positions":{`
	for _, j := range made {
		if j.recovery.From.Epoch == "" {
			continue
		}
		b = append(b, comma...)
		b = appendString(b, j.sub.Channel())
		b = append(b, ":{"...)
		b = appendPosition(b, j)
		b = append(b, '}')
		comma = ","
	}
	if comma == "," {
		b = append(b, '}')
	}
	comma = `,"data":{`
	for _, name := range channels.list {
		if data := channels.grants[name].Data; json.Valid(data) {
			b = append(b, comma...)
			b = appendString(b, name)
			b = appendValid(b, ":", data)
			comma = ","
		}
	}
	if comma == "," {
		b = append(b, '}')
	}
	return append(b, '}')
}

// appendPosition adds the members that say where a subscription begins, missed messages included, and whether these are all.
func appendPosition(b []byte, j joined) []byte {
	b = append(b, `"offset":`...)
	b = strconv.AppendUint(b, j.recovery.From.Offset, 10)
	b = append(b, `,"epoch":`...)
	b = appendString(b, j.recovery.From.Epoch)
	if j.asked {
		b = append(b, `,"recovered":`...)
		b = strconv.AppendBool(b, j.recovery.Recovered)
	}
	return b
}

// appendSubscribed adds what tells a client that a backend has subscribed it.
func appendSubscribed(b []byte, channel string, j joined) []byte {
	b = append(b, `{"type":"subscribed","channel":`...)
	b = appendString(b, channel)
	if j.recovery.From.Epoch != "" {
		b = append(b, ',')
		b = appendPosition(b, j)
	}
	return append(b, '}')
}

// appendUnsubscribed adds what tells a client that a subscription is over.
func appendUnsubscribed(b []byte, channel string, why ending) []byte {
	b = append(b, `{"type":"unsubscribed","channel":`...)
	b = appendString(b, channel)
	b = append(b, `,"code":`...)
	b = strconv.AppendUint(b, uint64(why.code), 10)
	b = append(b, `,"message":`...)
	b = appendString(b, why.reason)
	return append(b, '}')
}

func appendPresence(b []byte, id rawID, channel string, list []*hub.ClientInfo) []byte {
	b = appendOK(b, id)
	b = append(b, `,"channel":`...)
	b = appendString(b, channel)
	b = append(b, `,"clients":[`...)
	for i, info := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendInfo(b, info)
	}
	return append(b, `]}`...)
}

func appendHistory(b []byte, id rawID, channel string, past hub.History) []byte {
	b = appendOK(b, id)
	b = append(b, `,"channel":`...)
	b = appendString(b, channel)
	b = append(b, `,"offset":`...)
	b = strconv.AppendUint(b, past.Top.Offset, 10)
	b = append(b, `,"epoch":`...)
	b = appendString(b, past.Top.Epoch)
	b = append(b, `,"messages":[`...)
	for i, p := range past.Publications {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '{')
		b = appendContent(b, p)
		b = append(b, '}')
	}
	return append(b, `]}`...)
}

// appendChannels adds a list of names.
func appendChannels(b []byte, channels channels) []byte {
	b = append(b, `,"channels":[`...)
	for i, name := range channels.list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, name)
	}
	return append(b, ']')
}

// appendLogin adds the answer to a login, with what the backend has for the client.
func appendLogin(b []byte, id rawID, user string, data []byte) []byte {
	b = appendOK(b, id)
	b = append(b, `,"user":`...)
	b = appendString(b, user)
	return append(appendValid(b, `,"data":`, data), '}')
}

func appendPublished(b []byte, id rawID, channel string, offset uint64) []byte {
	b = appendOK(b, id)
	b = append(b, `,"channel":`...)
	b = appendString(b, channel)
	b = append(b, `,"offset":`...)
	b = strconv.AppendUint(b, offset, 10)
	return append(b, '}')
}

func appendError(b []byte, id rawID, code uint32, message string) []byte {
	b = append(b, `{"type":"error"`...)
	b = appendID(b, id)
	b = append(b, `,"code":`...)
	b = strconv.AppendUint(b, uint64(code), 10)
	b = append(b, `,"message":`...)
	b = appendString(b, message)
	return append(b, '}')
}

func appendPong(b []byte, id rawID) []byte {
	b = append(b, `{"type":"pong"`...)
	b = appendID(b, id)
	return append(b, '}')
}

// appendOK adds an answer without its end.
func appendOK(b []byte, id rawID) []byte {
	b = append(b, `{"type":"reply"`...)
	b = appendID(b, id)
	return append(b, `,"ok":true`...)
}

func appendID(b []byte, id rawID) []byte {
	if id == nil {
		return b
	}
	b = append(b, `,"id":`...)
	return append(b, id...)
}

// appendString adds s as a JSON string, RFC 8259 §7. Bytes that are not UTF-8
// become U+FFFD. (strconv.AppendQuote writes Go's escapes, which JSON lacks.)
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
