package session

import "github.com/millpond/millpond/codec"

// splitter finds where frames begin in a stream that it sees in pieces.
type splitter struct {
	left    int64 // bytes of the payload, or of the answer to the opening request, that are still missing
	headLen int
	head    [14]byte
	answer  bool
}

// foreign returns how many of n bytes are no frames: what is left of the answer to the opening request.
func (p *splitter) foreign(n int, fromClient bool) int {
	if fromClient || !p.answer {
		return 0
	}
	skip := int(min(p.left, int64(n)))
	if p.left -= int64(skip); p.left == 0 {
		p.answer = false
	}
	return skip
}

// pass goes on by b. It returns where in b the first frame begins, or -1, and how many do.
func (p *splitter) pass(b []byte) (first, frames int) {
	first = -1
	for at := 0; at < len(b); {
		if p.left > 0 {
			n := int(min(p.left, int64(len(b)-at)))
			p.left -= int64(n)
			at += n
			continue
		}
		if p.headLen == 0 {
			if first < 0 {
				first = at
			}
			frames++
		}
		have := p.headLen
		p.headLen += copy(p.head[have:], b[at:])
		n := codec.HeaderBytes(p.head[:p.headLen])
		if n == 0 {
			return first, frames
		}
		p.left, p.headLen = codec.ReadHeader(p.head[:n]).Length, 0
		at += n - have
	}
	return first, frames
}

// resume has p go on where a decoder is.
func (p *splitter) resume(u *codec.Unfinished) {
	p.headLen = copy(p.head[:], u.Head)
	if u.InFrame {
		p.left = u.Frame.Length - int64(len(u.Payload))
	}
}

// lastFrame returns the frame at the end of b that is not whole there, or nothing. b begins with a frame.
func lastFrame(b []byte) []byte {
	for {
		n := codec.HeaderBytes(b)
		if n == 0 {
			return b
		}
		whole := int64(n) + codec.ReadHeader(b[:n]).Length
		if whole > int64(len(b)) {
			return b
		}
		b = b[whole:]
	}
}
