package handshake

// Extensions are read here and none is accepted: RFC 6455 §9.1 lets a server
// decline any offer by leaving it out of its answer. An extension that is to be
// accepted is chosen here and written by ws.Upgrader; see newAttempt.

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
