package handshake

import "bytes"

// Extensions are read here. RFC 6455 §9.1 lets a server decline any offer by leaving it out of its answer; the one
// that may be accepted is in deflate.go.

// isExtensionList reports whether b, the value of a Sec-WebSocket-Extensions
// field, has the form of RFC 6455 §9.1:
//
//	extension-list  = 1#extension
//	extension       = extension-token *( ";" extension-param )
//	extension-param = token [ "=" (token | quoted-string) ]
//
// Its cost is linear in b, whatever the number of parameters.
func isExtensionList(b []byte) bool {
	found := false
	for {
		b = trimSpace(b)
		switch {
		case len(b) == 0:
			return found
		case b[0] == ',':
			b = b[1:]
			continue
		}
		var ok bool
		if b, ok = skipExtension(b); !ok {
			return false
		}
		found = true
	}
}

// skipExtension skips one extension, up to the comma after it or the end.
func skipExtension(b []byte) (rest []byte, ok bool) {
	if b, ok = skipToken(b); !ok {
		return b, false
	}
	for len(b) > 0 && b[0] == ';' {
		if b, ok = skipToken(trimSpace(b[1:])); !ok {
			return b, false
		}
		if len(b) > 0 && b[0] == '=' {
			if b, ok = skipParamValue(trimSpace(b[1:])); !ok {
				return b, false
			}
		}
	}
	return b, len(b) == 0 || b[0] == ','
}

func skipParamValue(b []byte) (rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return skipToken(b)
	}
	// RFC 6455 §9.1: "When using the quoted-string syntax variant, the value after
	// quoted-string unescaping MUST conform to the 'token' ABNF." An escaped quote
	// or backslash is no token character, so that escapes need no more than this.
	b = b[1:]
	for n := 0; len(b) > 0; n++ {
		c := b[0]
		if c == '"' {
			return trimSpace(b[1:]), n > 0
		}
		if c == '\\' && len(b) > 1 {
			b, c = b[1:], b[1]
		}
		if octets[c]&tokenOctet == 0 {
			return b, false
		}
		b = b[1:]
	}
	return b, false
}

// skipToken skips a token and the whitespace after it.
func skipToken(b []byte) (rest []byte, ok bool) {
	n := 0
	for n < len(b) && octets[b[n]]&tokenOctet != 0 {
		n++
	}
	return trimSpace(b[n:]), n > 0
}

// cutExtension cuts the first extension off a list that isExtensionList accepts: its name, and its parameters with a
// semicolon before each. The name is empty for an empty element.
func cutExtension(list []byte) (name, params, rest []byte) {
	list = trimSpace(list)
	if len(list) == 0 || list[0] == ',' {
		return nil, nil, list[min(1, len(list)):]
	}
	rest, _ = skipExtension(list)
	params, _ = skipToken(list)
	name = trimSpace(list[:len(list)-len(params)])
	return name, params[:len(params)-len(rest)], rest[min(1, len(rest)):]
}

// cutParam cuts the first parameter off those that cutExtension returned. value is nil if it has none, and without
// the quotes of a quoted string, in which no character that needs an escape is allowed.
func cutParam(params []byte) (name, value, rest []byte) {
	params = trimSpace(params[1:]) // the semicolon
	rest, _ = skipToken(params)
	name = trimSpace(params[:len(params)-len(rest)])
	if len(rest) == 0 || rest[0] != '=' {
		return name, nil, rest
	}
	value = trimSpace(rest[1:])
	rest, _ = skipParamValue(value)
	value = trimSpace(value[:len(value)-len(rest)])
	if value[0] == '"' {
		value = unescape(value[1 : len(value)-1])
	}
	return name, value, rest
}

// unescape removes the backslashes of a quoted string. It copies only if there are any.
func unescape(b []byte) []byte {
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	var plain []byte
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' {
			i++
		}
		plain = append(plain, b[i])
	}
	return plain
}
