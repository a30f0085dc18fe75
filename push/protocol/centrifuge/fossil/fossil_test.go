package fossil

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	price19 = `{"symbol":"EURUSD","exchange":"XETRA","time":1700000000,"price":19,"open":true}`
	price45 = `{"symbol":"EURUSD","exchange":"XETRA","time":1700000000,"price":4.5,"open":true}`

	sixteen = "Abcdefghijklmno." // a block
	other16 = "Pqrstuvwxyz0123,"
)

// deltas serves Create, Apply and the fuzz seeds. The reference's port to
// JavaScript, fossil-delta 2.0.0, makes the targets of these deltas.
var deltas = []struct {
	name, source, target, delta string
}{
	{"nothing from nothing", "", "", "0\n0;"},
	{"nothing from something", "abc", "", "0\n0;"},
	{"something from nothing", "", "abc", "3\n3:abc1XObC0;"},
	{"one byte in the last word", "", "abcdx", "5\n5:abcdx3PObD_;"},
	{"the checksum overflows", "", "zzzzzzzz", "8\n8:zzzzzzzz3pyFJp;"},
	{"the same", "0123456789", "0123456789", "A\nA@0,2ScrXf;"},
	{"nothing in common", "abc", "xyz", "3\n3:xyz1tUNd0;"},
	{"the example of doc.go", price19, price45, "1G\n10@0,3:4.5D@12,2qsgyC;"},
	{"short begin", "01234|", "01234!", "6\n5@0,1:!1_KZ8o;"},
	{"begin that costs what it saves", "0123|", "0123!", "5\n5:0123!1HCJ8o;"},
	{"short end", "|01234", "!01234", "6\n1:!5@1,1KP34n;"},
	{"end that costs what it saves", "|0123", "!0123", "5\n5:!01231KC34n;"},
	{"put in", "0123456789", "01234!56789", "B\n5@0,1:!5@5,2RYf1e;"},
	{"left out", "01234!56789", "0123456789", "A\n5@0,5@6,2ScrXf;"},
	{"begin and end overlap in the source", "0000000", "0000000000", "A\n7@0,3:0002G_61W;"},
	{"begin and end overlap in the target", "0000000000", "0000000", "7\n7@0,1WO60l;"},
	{"moved", sixteen + other16, "<" + other16 + sixteen + ">", "Y\n1:<G@G,G@0,1:>3gAZGu;"},
	{"prolonged to both sides", "012" + sixteen + other16 + "34", "<" + sixteen + other16 + "3>", "Z\n1:<X@3,1:>3g7s8u;"},
	{"twice", sixteen, "<" + sixteen + sixteen + ">", "Y\n1:<G@0,G@0,1:>BEKD8;"},
	{"the longest of some", sixteen + "....." + strings.Repeat(".", 11) + sixteen + "!!!!", "<" + sixteen + "!!>", "K\n1:<I@W,1:>2ZchBY;"},
	{"begin inside a character", "01234é", "01234è", "7\n5@0,2:è1_yDdo;"},
	{"end inside a character", "é01234", "ĩ01234", "7\n2:ĩ5@2,3rs6Gm;"},
	{"match inside characters", "é" + sixteen + other16 + "é", "<ĩ" + sixteen + other16 + "è>", "b\n3:<ĩW@2,3:è>PFaYh;"},
	{"end inside a character of four bytes", "\U0005034801234", "\U0001034801234", "9\n4:\U000103485@4,1KlRzw;"},
	{"begin inside no character", "01234\x80\x80\x80\x80\x80\x81", "01234\x80\x80\x80\x80\x80\x82", "B\nA@0,1:\x823aCZIo;"},
	{"fewer bytes than a character", "\x80\x80", "\x80\x80\x80", "3\n3:\x80\x80\x8020W800;"},
	{"match inside no characters", "\x80\x80\x80\x80" + sixteen + other16, ">\x80\x80\x80\x80" + sixteen + other16 + "!", "b\n1:>_@0,1:!1iZRIu;"},
}

func TestCreate(t *testing.T) {
	for _, test := range deltas {
		t.Run(test.name, func(t *testing.T) {
			if got := string(Create([]byte(test.source), []byte(test.target))); got != test.delta {
				t.Errorf("got  %+q\nwant %+q", got, test.delta)
			}
		})
	}
}

func TestApply(t *testing.T) {
	for _, test := range deltas {
		t.Run(test.name, func(t *testing.T) {
			got, err := Apply([]byte(test.source), []byte(test.delta), len(test.target))
			if err != nil || string(got) != test.target {
				t.Errorf("got %+q, %v, want %+q", got, err, test.target)
			}
		})
	}
}

func TestApplyOthers(t *testing.T) {
	tests := []struct{ name, source, delta, want string }{
		{"literal of nothing", "", "0\n0:0;", ""},
		{"copy of nothing, at the source's end", "abc", "0\n0@3,0;", ""},
		{"leading zeros", "abc", "003\n0003@00,001XObC0;", "abc"},
		{"the largest checksum", "", "4\n4:\xff\xff\xff\xff3~~~~~;", "\xff\xff\xff\xff"},
		{"the same bytes twice", "abc", "6\n3@0,3@0,33mMDX;", "abcabc"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Apply([]byte(test.source), []byte(test.delta), len(test.want))
			if err != nil || string(got) != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

var refused = []struct {
	name, delta string
	want        error
	says        string
}{
	{"empty", "", ErrMalformed, "unexpected end, at byte 0"},
	{"length alone", "3", ErrMalformed, "unexpected end, at byte 1"},
	{"no length", "\n3:abc1XObC0;", ErrMalformed, "no number, at byte 0"},
	{"no newline", "3 3:abc1XObC0;", ErrMalformed, "no newline"},
	{"length of 33 bits", "400000\n", ErrMalformed, "beyond 32 bits"},
	{"length of 66 bits", "3zzzzzzzzzz\n", ErrMalformed, "beyond 32 bits"},
	{"one byte too large", "B\n", ErrTooLarge, "11 bytes of at most 10"},
	{"largest length", "3~~~~~\n", ErrTooLarge, "4294967295 bytes of at most 10"},
	{"no segment", "0\n", ErrMalformed, "unexpected end"},
	{"unknown sign", "3\n3!abc1XObC0;", ErrMalformed, "neither copy"},
	{"number without a sign", "3\n3", ErrMalformed, "unexpected end"},
	{"copy without an offset", "3\n3@,1XObC0;", ErrMalformed, "no number"},
	{"copy without a comma", "3\n3@0;1XObC0;", ErrMalformed, "no comma"},
	{"copy cut off", "3\n3@0", ErrMalformed, "unexpected end"},
	{"copy beyond the source", "3\n3@4,1XObC0;", ErrMalformed, "beyond the source's end"},
	{"copy from far beyond", "3\n3@3~~~~~,1XObC0;", ErrMalformed, "beyond the source's end"},
	{"copy beyond the target", "2\n3@0,1XObC0;", ErrMalformed, "longer than its length"},
	{"largest copy", "3\n3~~~~~@0,1XObC0;", ErrMalformed, "longer than its length"},
	{"literal cut off", "3\n3:ab", ErrMalformed, "beyond the delta's end"},
	{"literal beyond the target", "2\n3:abc1XObC0;", ErrMalformed, "longer than its length"},
	{"too short", "4\n3:abc1XObC0;", ErrMalformed, "shorter than its length"},
	{"no checksum", "3\n3:abc;", ErrMalformed, "no number"},
	{"wrong checksum", "3\n3:abc1XObC1;", ErrChecksum, "wrong checksum"},
	{"other source", "3\n3@1,1XObC0;", ErrChecksum, "wrong checksum"},
	{"bytes after the end", "3\n3:abc1XObC0;\n", ErrMalformed, "after the checksum"},
}

func TestApplyRefuses(t *testing.T) {
	for _, test := range refused {
		t.Run(test.name, func(t *testing.T) {
			got, err := Apply([]byte("abcdef"), []byte(test.delta), 10)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %v: %s", err, test.want, test.says)
			}
			if got != nil {
				t.Errorf("got %q beside the error", got)
			}
		})
	}
}

// TestTruncated cuts a delta at each byte: it is refused, and nothing behind
// the cut is read.
func TestTruncated(t *testing.T) {
	delta := Create([]byte(price19), []byte(price45))
	for n := range delta {
		if got, err := Apply([]byte(price19), delta[:n:n], 1000); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: got %q, %v", delta[:n], got, err)
		}
	}
}

// TestTries has a block often in the source, and only once, behind the bound,
// what follows it in the target.
func TestTries(t *testing.T) {
	for _, before := range []int{maxTries - 1, maxTries} {
		source := strings.Repeat(sixteen+"----------------", before) + sixteen + other16
		t.Run(fmt.Sprintf("behind %d", before), func(t *testing.T) {
			delta := roundTrip(t, []byte(source), []byte("<"+sixteen+other16+"!"))
			if found := bytes.Contains(delta, []byte("W@")); found != (before < maxTries) {
				t.Errorf("found is %v: %q", found, delta)
			}
		})
	}
}

// TestRandomDocuments changes documents at random places. The characters share
// their first bytes, their last bytes or both, to part them wrongly if at all.
func TestRandomDocuments(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		source, target := documents(random)
		roundTrip(t, []byte(source), []byte(target))
	}
}

// documents returns a document and another that is made of its parts.
func documents(random *rand.Rand) (source, target string) {
	source = characters(random, random.IntN(400))
	target = source
	for range random.IntN(5) {
		i, j := part(random, target)
		k, l := part(random, source)
		switch random.IntN(3) {
		case 0: // change
			target = target[:i] + characters(random, random.IntN(4)) + target[min(j, i+utf8.UTFMax):]
		case 1: // move
			target = target[:i] + source[k:l] + target[i:]
		default: // leave out
			target = target[:i] + target[j:]
		}
		target = strings.ToValidUTF8(target, "é")
	}
	return source, target
}

func characters(random *rand.Rand, n int) string {
	alphabet := []rune("aé驩€₭\ufffd\U00010348\U00010349\U00050348\U0001f388\x00\"")
	var b strings.Builder
	for range n {
		b.WriteRune(alphabet[random.IntN(len(alphabet))])
	}
	return b.String()
}

func part(random *rand.Rand, s string) (begin, end int) {
	begin = random.IntN(len(s) + 1)
	return begin, begin + random.IntN(len(s)-begin+1)
}

// roundTrip checks all that Create promises of one pair, and returns the delta.
func roundTrip(t *testing.T, source, target []byte) []byte {
	t.Helper()
	delta := Create(source, target)
	got, err := Apply(source, delta, len(target))
	if err != nil || !bytes.Equal(got, target) {
		t.Fatalf("%+q to %+q: delta %+q makes %+q, %v", source, target, delta, got, err)
	}
	if utf8.Valid(target) && !utf8.Valid(delta) {
		t.Fatalf("%+q to %+q: delta %+q is not UTF-8", source, target, delta)
	}
	if len(delta) > len(target)+21 {
		t.Fatalf("%+q to %+q: delta %+q has %d bytes", source, target, delta, len(delta))
	}
	return delta
}

func FuzzRoundTrip(f *testing.F) {
	for _, test := range deltas {
		f.Add([]byte(test.source), []byte(test.target))
	}
	f.Fuzz(func(t *testing.T, source, target []byte) {
		roundTrip(t, source, target)
		roundTrip(t, source, bytes.ToValidUTF8(target, []byte("é")))
		// What they have in common stands at other places.
		roundTrip(t, slices.Concat(source, target), slices.Concat(target, source, target))
	})
}

func FuzzApply(f *testing.F) {
	for _, test := range deltas {
		f.Add([]byte(test.source), []byte(test.delta))
	}
	for _, test := range refused {
		f.Add([]byte("abcdef"), []byte(test.delta))
	}
	f.Fuzz(func(t *testing.T, source, delta []byte) {
		const maxBytes = 1000
		got, err := Apply(slices.Clip(source), slices.Clip(delta), maxBytes)
		want, ok := naiveApply(string(source), string(delta), maxBytes)
		if (err == nil) != ok || string(got) != want {
			t.Fatalf("got %q, %v, want %q, %v", got, err, want, ok)
		}
	})
}

var (
	header  = regexp.MustCompile(`^([0-9A-Z_a-z~]+)\n`)
	copying = regexp.MustCompile(`^([0-9A-Z_a-z~]+)@([0-9A-Z_a-z~]+),`)
	literal = regexp.MustCompile(`^([0-9A-Z_a-z~]+):`)
	trailer = regexp.MustCompile(`^([0-9A-Z_a-z~]+);$`)
)

// naiveApply is Apply's twin: by regular expressions, with numbers of any size.
func naiveApply(source, delta string, maxBytes int64) (target string, ok bool) {
	m := header.FindStringSubmatch(delta)
	if m == nil || naiveNumber(m[1]) > maxBytes {
		return "", false
	}
	length := naiveNumber(m[1])
	for delta = delta[len(m[0]):]; ; {
		if m = trailer.FindStringSubmatch(delta); m != nil {
			ok = int64(len(target)) == length && naiveNumber(m[1]) == naiveChecksum(target)
			break
		}
		if m = copying.FindStringSubmatch(delta); m != nil {
			n, offset := naiveNumber(m[1]), naiveNumber(m[2])
			if offset+n > int64(len(source)) || int64(len(target))+n > length {
				return "", false
			}
			target += source[offset : offset+n]
			delta = delta[len(m[0]):]
			continue
		}
		m = literal.FindStringSubmatch(delta)
		if m == nil || naiveNumber(m[1]) > int64(len(delta)-len(m[0])) {
			return "", false
		}
		delta = delta[len(m[0]):]
		n := naiveNumber(m[1])
		target += delta[:n]
		delta = delta[n:]
	}
	if !ok {
		return "", false
	}
	return target, true
}

// naiveNumber returns a number that is 2^40 or more as 2^40.
func naiveNumber(s string) int64 {
	n := int64(0)
	for _, c := range s {
		n = min(1<<40, n*64+int64(strings.IndexRune("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~", c)))
	}
	return n
}

func naiveChecksum(s string) int64 {
	sum, weights := int64(0), []int64{1 << 24, 1 << 16, 1 << 8, 1}
	for i := range len(s) {
		sum += int64(s[i]) * weights[i%4]
	}
	return sum % (1 << 32)
}

func TestChecksum(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for n := range 50 {
		b := noise(random, n)
		if got, want := int64(checksum(b)), naiveChecksum(string(b)); got != want {
			t.Errorf("%x: got %d, want %d", b, got, want)
		}
	}
}

// TestCommon differs in each byte of slices of every length up to 40.
func TestCommon(t *testing.T) {
	for n := range 41 {
		a := bytes.Repeat([]byte("a"), n)
		if commonPrefix(a, a) != n || commonSuffix(a, a) != n {
			t.Errorf("%d equal bytes: got %d and %d", n, commonPrefix(a, a), commonSuffix(a, a))
		}
		for i := range n {
			b := bytes.Clone(a)
			b[i] ^= 0x80
			longer := slices.Concat(b, a)
			if got := commonPrefix(a, longer); got != i {
				t.Errorf("%d bytes that differ in byte %d: got prefix %d", n, i, got)
			}
			if got := commonSuffix(slices.Concat(a, b), a); got != n-1-i {
				t.Errorf("%d bytes that differ in byte %d: got suffix %d", n, i, got)
			}
		}
	}
}

func TestAllocations(t *testing.T) {
	source, target := []byte(price19), []byte(price45)
	if n := testing.AllocsPerRun(100, func() { Create(source, target) }); n != 1 {
		t.Errorf("Create allocates %v times", n)
	}
	// Copies that save nothing leave the least room.
	many := make([]segment, len(source)/2)
	for i := range many {
		many[i] = segment{from: 9, at: 2 * i, n: 1}
	}
	if n := testing.AllocsPerRun(100, func() { encode(source, many) }); n != 1 {
		t.Errorf("encode allocates %v times", n)
	}
	delta := Create(source, target)
	if n := testing.AllocsPerRun(100, func() { Apply(source, delta, len(target)) }); n != 1 {
		t.Errorf("Apply allocates %v times", n)
	}
}

func noise(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// document returns JSON of at least n bytes: an array of quotes.
func document(random *rand.Rand, n int) []byte {
	b := []byte(`{"quotes":[`)
	for len(b) < n {
		b = fmt.Appendf(b, `{"symbol":"%c%c%c","bid":%d,"ask":%d,"open":true},`, 'A'+random.IntN(26), 'A'+random.IntN(26),
			'A'+random.IntN(26), 10000+random.IntN(9000), 20000+random.IntN(900))
	}
	return append(b, `{}]}`...)
}

// changed returns b, a document, with that many of its bids changed to longer
// numbers, evenly spread.
func changed(b []byte, bids int) []byte {
	bid := []byte(`"bid":1`)
	every := bytes.Count(b, bid) / (bids + 1)
	var out []byte
	for range bids {
		for range every {
			i := bytes.Index(b, bid) + len(bid)
			out = append(out, b[:i]...)
			b = b[i:]
		}
		out = append(out, "23."...)
	}
	return append(out, b...)
}

// collisions returns as many different blocks, all with the hash of like.
func collisions(random *rand.Rand, like []byte, blocks int) []byte {
	x := index{first: make([]uint32, 1<<16)}
	var out []byte
	for range blocks {
		low := random.Uint64()
		high := low*odd ^ binary.LittleEndian.Uint64(like)*odd ^ binary.LittleEndian.Uint64(like[8:])
		b := binary.LittleEndian.AppendUint64(nil, low)
		b = binary.LittleEndian.AppendUint64(b, high)
		if x.hash(b) != x.hash(like) {
			panic("the hash is another than this function knows")
		}
		out = append(out, b...)
	}
	return out
}

func pairs() []pair {
	random := rand.New(rand.NewPCG(5, 6))
	small, large := document(random, 1<<10), document(random, 64<<10)
	repeated := bytes.Repeat([]byte("a"), 64<<10)
	return []pair{
		{"one_number", small, changed(small, 1)},
		{"five_numbers", small, changed(small, 5)},
		{"64KiB", large, changed(large, 1)},
		{"64KiB_fifty_numbers", large, changed(large, 50)},
		{"64KiB_random", noise(random, 64<<10), noise(random, 64<<10)},
		{"64KiB_one_byte_repeated", repeated, slices.Concat([]byte("<"), repeated, []byte(">"))},
		{"64KiB_of_one_hash", collisions(random, repeated, 4<<10), repeated},
	}
}

type pair struct {
	name           string
	source, target []byte
}

func BenchmarkCreate(b *testing.B) {
	for _, p := range pairs() {
		b.Run(p.name, func(b *testing.B) {
			b.SetBytes(int64(len(p.target)))
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				size = len(Create(p.source, p.target))
			}
			b.ReportMetric(float64(size), "delta-bytes")
		})
	}
}

func BenchmarkApply(b *testing.B) {
	for _, p := range pairs() {
		delta := Create(p.source, p.target)
		b.Run(p.name, func(b *testing.B) {
			b.SetBytes(int64(len(p.target)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Apply(p.source, delta, len(p.target)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
