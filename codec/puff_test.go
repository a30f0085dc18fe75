package codec

import "errors"

// puff is the naive twin of inflate: RFC 1951 bit by bit, from its text. It also knows how far back a stream refers.

var errPuff = errors.New("corrupt")

// errPuffTooBig tells that the output passed the limit before anything was wrong.
var errPuffTooBig = errors.New("too big")

type puff struct {
	in       []byte
	bit      int // of in, from the least significant of in[0]
	out      []byte
	known    int // bytes of out that are window
	limit    int
	distance int // the longest
}

// inflatePuff inflates a message's payload. distance is the longest reference back.
func inflatePuff(payload, window []byte, limit int) (message []byte, distance int, err error) {
	if len(payload) == 0 {
		return nil, 0, nil
	}
	p := &puff{
		in:    append(append([]byte{}, payload...), "\x00\x00\xff\xff\x01\x00\x00\xff\xff"...),
		out:   append([]byte{}, window...),
		known: len(window), limit: limit,
	}
	for streams := 0; streams < 64; streams++ {
		err = p.stream()
		if len(p.out)-p.known > limit {
			err = errPuffTooBig
		}
		if err != nil {
			return nil, p.distance, err
		}
		p.bit = (p.bit + 7) &^ 7
		if rest := len(p.in) - p.bit/8; rest == 0 || rest == 9 {
			return p.out[p.known:], p.distance, nil
		}
	}
	return nil, p.distance, errPuff
}

// stream inflates up to the end of the block that claims to be the last.
func (p *puff) stream() error {
	for last := uint(0); last == 0; {
		head, err := p.bits(3)
		if err != nil {
			return err
		}
		last = head & 1
		switch head >> 1 {
		case 0:
			err = p.stored()
		case 1:
			var lengths [288]int
			for i := range lengths {
				switch {
				case i < 144, i >= 280:
					lengths[i] = 8
				case i < 256:
					lengths[i] = 9
				default:
					lengths[i] = 7
				}
			}
			distances := make([]int, 32)
			for i := range distances {
				distances[i] = 5
			}
			err = p.codes(lengths[:], distances)
		case 2:
			err = p.dynamic()
		default:
			err = errPuff
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *puff) bits(n int) (v uint, err error) {
	for i := range n {
		if p.bit >= 8*len(p.in) {
			return 0, errPuff
		}
		v |= uint(p.in[p.bit/8]>>(p.bit%8)&1) << i
		p.bit++
	}
	return v, nil
}

func (p *puff) stored() error {
	p.bit = (p.bit + 7) &^ 7
	length, err1 := p.bits(16)
	inverse, err2 := p.bits(16)
	if err1 != nil || err2 != nil || length != inverse^0xFFFF {
		return errPuff
	}
	for range length {
		b, err := p.bits(8)
		if err != nil {
			return err
		}
		if err := p.put(byte(b)); err != nil {
			return err
		}
	}
	return nil
}

func (p *puff) put(b byte) error {
	if p.out = append(p.out, b); len(p.out)-p.known > p.limit {
		return errPuffTooBig
	}
	return nil
}

// symbol reads one symbol of the canonical code with these lengths, RFC 1951 §3.2.2.
func (p *puff) symbol(lengths []int) (int, error) {
	code, first := 0, 0
	for size := 1; size <= 15; size++ {
		b, err := p.bits(1)
		if err != nil {
			return 0, err
		}
		code = code<<1 | int(b)
		first <<= 1
		for i, l := range lengths {
			if l != size {
				continue
			}
			if first == code {
				return i, nil
			}
			first++
		}
	}
	return 0, errPuff
}

// complete reports whether the lengths make a code: none, one of one bit, or all of the space.
func complete(lengths []int) bool {
	space, count, longest := 0, 0, 0
	for _, l := range lengths {
		if l > 0 {
			space += 1 << (15 - l)
			count++
			longest = max(longest, l)
		}
	}
	return count == 0 || space == 1<<15 || (count == 1 && longest == 1)
}

func (p *puff) dynamic() error {
	literals, err1 := p.bits(5)
	distances, err2 := p.bits(5)
	codes, err3 := p.bits(4)
	if err1 != nil || err2 != nil || err3 != nil || literals+257 > 286 || distances+1 > 30 {
		return errPuff
	}
	order := []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	meta := make([]int, 19)
	for i := range codes + 4 {
		l, err := p.bits(3)
		if err != nil {
			return err
		}
		meta[order[i]] = int(l)
	}
	if !complete(meta) {
		return errPuff
	}
	all := int(literals + 257 + distances + 1)
	var lengths []int
	for len(lengths) < all {
		s, err := p.symbol(meta)
		if err != nil {
			return err
		}
		value, times := s, 1
		switch s {
		case 16:
			if len(lengths) == 0 {
				return errPuff
			}
			value = lengths[len(lengths)-1]
			times, err = p.times(3, 2)
		case 17:
			value = 0
			times, err = p.times(3, 3)
		case 18:
			value = 0
			times, err = p.times(11, 7)
		}
		if err != nil || len(lengths)+times > all {
			return errPuff
		}
		for range times {
			lengths = append(lengths, value)
		}
	}
	if !complete(lengths[:literals+257]) || !complete(lengths[literals+257:]) {
		return errPuff
	}
	return p.codes(lengths[:literals+257], lengths[literals+257:])
}

func (p *puff) times(least, bits int) (int, error) {
	n, err := p.bits(bits)
	return least + int(n), err
}

// codes inflates the symbols of one block. The tables are those of RFC 1951 §3.2.5.
func (p *puff) codes(literals, distances []int) error {
	for {
		s, err := p.symbol(literals)
		switch {
		case err != nil:
			return err
		case s < 256:
			if err := p.put(byte(s)); err != nil {
				return err
			}
		case s == 256:
			return nil
		case s > 285:
			return errPuff
		default:
			if err := p.match(s-257, distances); err != nil {
				return err
			}
		}
	}
}

func (p *puff) match(s int, distances []int) error {
	base := []int{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	extra := []int{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	length, err := p.times(base[s], extra[s])
	if err != nil {
		return err
	}
	d, err := p.symbol(distances)
	if err != nil || d > 29 {
		return errPuff
	}
	distance := d + 1
	if d >= 4 {
		bits := d/2 - 1
		more, err := p.bits(bits)
		if err != nil {
			return err
		}
		distance = 1 + (2+d&1)<<bits + int(more)
	}
	if distance > len(p.out) || distance > 1<<15 {
		return errPuff
	}
	p.distance = max(p.distance, distance)
	for range length {
		if err := p.put(p.out[len(p.out)-distance]); err != nil {
			return err
		}
	}
	return nil
}
