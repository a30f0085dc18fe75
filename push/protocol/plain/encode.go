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

// appendMessage adds a publication. Its data is compacted if it is JSON, and
// in base64 if not: other protocols may publish any bytes.
func appendMessage(b []byte, p *hub.Publication) []byte {
	b = slices.Grow(b, 64+len(p.Channel)+len(p.Data))
	b = append(b, `{"type":"message","channel":`...)
	b = appendString(b, p.Channel)
	b = append(b, `,"offset":`...)
	b = strconv.AppendUint(b, p.Offset, 10)
	b = appendData(b, p.Data)
	if len(p.Tags) > 0 {
		b = appendTags(b, p.Tags)
	}
	return append(b, '}')
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

// appendReply adds the answer to subscribe and unsubscribe.
func appendReply(b []byte, id rawID, channels channels) []byte {
	b = appendOK(b, id)
	if !channels.plural {
		b = append(b, `,"channel":`...)
		b = appendString(b, channels.list[0])
		return append(b, '}')
	}
	b = append(b, `,"channels":[`...)
	for i, name := range channels.list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, name)
	}
	return append(b, `]}`...)
}

func appendLogin(b []byte, id rawID, user string) []byte {
	b = appendOK(b, id)
	b = append(b, `,"user":`...)
	b = appendString(b, user)
	return append(b, '}')
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
