package tap

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/internal/program"
	"github.com/millpond/millpond/session"
)

// recording is a capture that is written to a file.
type recording struct {
	b    *bench
	r    *reader
	done chan []byte
}

func (b *bench) record(query string) *recording {
	b.t.Helper()
	rec := &recording{b: b, r: b.capture("/tap?format=pcapng&" + query), done: make(chan []byte, 1)}
	go func() {
		all, _ := io.ReadAll(rec.r.in)
		rec.done <- all
	}()
	return rec
}

// file ends the capture once so many frames are shown, and returns where it is.
func (rec *recording) file(frames int64) string {
	rec.b.t.Helper()
	rec.b.until("all frames are shown", func() bool { return rec.b.taps.Stats().Frames >= frames })
	rec.b.until("all connections have ended", func() bool { return rec.b.taps.Stats().Connections == 0 })
	rec.b.taps.Stop()
	path := filepath.Join(rec.b.t.TempDir(), "capture.pcapng")
	if err := os.WriteFile(path, <-rec.done, 0o600); err != nil {
		rec.b.t.Fatal(err)
	}
	return path
}

// tshark decodes a capture with its defaults: a line for each packet that fits the filter.
func tshark(t *testing.T, path, filter string, fields ...string) []string {
	t.Helper()
	args := []string{"-n", "-r", path, "-Y", filter, "-T", "fields", "-E", "separator=|", "-E", "aggregator=;"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	command := exec.Command(program.Find(t, "tshark"), args...)
	command.Env = append(os.Environ(), "HOME="+t.TempDir()) // nobody's preferences
	var errs strings.Builder
	command.Stderr = &errs
	out, err := command.Output()
	if err != nil {
		t.Fatalf("tshark: %v: %s", err, errs.String())
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

var frameFields = []string{
	"tcp.srcport", "websocket.fin", "websocket.rsv", "websocket.pmc", "websocket.opcode", "websocket.mask", "websocket.masking_key",
}

// checkFrames wants these frames, of which each is the side, the bits and the content, as tshark shows them.
func checkFrames(t *testing.T, path string, port int, want []string) {
	t.Helper()
	var got []string
	for _, line := range tshark(t, path, "websocket", append(frameFields, "websocket.payload.text", "websocket.payload.continue",
		"websocket.payload.ping", "websocket.payload.pong", "websocket.payload.close.status_code", "websocket.payload.close.reason", "data.data")...) {
		f := strings.Split(line, "|")
		side := "client"
		if f[0] == fmt.Sprint(port) {
			side = "server"
		}
		got = append(got, strings.TrimRight(side+" "+strings.Join(f[1:], " "), " "))
	}
	for i := range got {
		got[i] = strings.Join(strings.Fields(got[i]), " ")
	}
	if !slices.Equal(got, want) {
		t.Errorf("tshark shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	const wrong = "tcp.analysis.flags || _ws.malformed || _ws.expert.severity == error || _ws.expert.severity == warning"
	if lines := tshark(t, path, wrong, "frame.number", "_ws.expert.message"); lines[0] != "" {
		t.Errorf("tshark finds fault: %q", lines)
	}
}

// story is what a client does after its opening: fragments with a ping among them, compressed messages, and a close.
func story(c *wire, takeover bool) {
	d := newDeflater()
	message := func(s string) string {
		if !takeover {
			d = newDeflater()
		}
		return d.message(s)
	}
	c.send(masked(codec.OpText, false, "frag"), masked(codec.OpPing, true, "are you there"), masked(codec.OpContinuation, true, "ments"))
	c.next()
	c.next()
	long := strings.Repeat("compressed ", 30)
	c.send(compressed(masked(codec.OpText, true, message(long))))
	c.next()
	again := message(long)
	c.send(compressed(masked(codec.OpText, false, again[:3])), masked(codec.OpContinuation, true, again[3:]))
	c.next()
	c.send(masked(codec.OpClose, true, "\x03\xe8bye"))
	c.next()
	_ = c.Close()
}

// told is what tshark is to show of the story. The messages in fragments are written without compression, for tshark would not inflate
// them; others of a connection with takeover only as long as tshark has seen all of those before.
func told(takeover, late bool) []string {
	const key = "37fa213d"
	long := strings.TrimSpace(strings.Repeat("compressed ", 30))
	deflated := "1 0x04 1"
	server := deflated
	if takeover && late {
		deflated, server = "1 0x00 0", "1 0x00 0"
	}
	want := []string{
		"client 0 0x00 0 1 1 " + key,
		"client 1 0x00 0 9 1 " + key + " 61726520796f75207468657265",
		"client 1 0x00 0 0 1 " + key + " fragments",
		"server 1 0x00 0 10 0 61726520796f75207468657265",
		"server 1 0x00 0 1 0 fragments",
		"client " + deflated + " 1 1 " + key + " " + long,
		"server " + server + " 1 0 " + long,
		"client 0 0x00 0 1 1 " + key,
		"client 1 0x00 0 0 1 " + key + " " + long,
		"server " + server + " 1 0 " + long,
		"client 1 0x00 0 8 1 " + key + " 1000 bye",
		"server 1 0x00 0 8 0 1000",
	}
	if !late {
		return append([]string{
			"client 0 0x00 0 1 1 " + key, "client 1 0x00 0 0 1 " + key + " begun before the capture", "server 1 0x00 0 1 0 begun before the capture",
		}, want...)
	}
	return append([]string{ // the first fragment is made up
		"client 0 0x00 0 1 1 00000000", "client 1 0x00 0 0 1 " + key + " begun before the capture", "server 1 0x00 0 1 0 begun before the capture",
	}, want...)
}

// A capture that begins in mid-connection, in the middle of a frame of a message in fragments, with fragments, deflate, pings and a close: tshark,
// as it is installed, shows every frame with the right bits and text.
func TestTshark(t *testing.T) {
	program.Find(t, "tshark")
	for _, takeover := range []bool{false, true} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("takeover=%v/late=%v", takeover, late), func(t *testing.T) {
				b := start(t, Limits{}, session.Endpoint{
					Path: "/echo", Handler: echo{}, Inline: true, Compression: &session.Compression{ContextTakeover: takeover, MinBytes: 100},
				})
				var rec *recording
				if !late {
					rec = b.record("")
				}
				c := b.dial("/echo", "Sec-WebSocket-Extensions: permessage-deflate\r\n")
				begun := slices.Concat(masked(codec.OpText, false, "begun "), masked(codec.OpContinuation, true, "before the capture"))
				before := b.engine.Stats().BytesIn
				c.send(begun[:20])
				b.until("half of it is read", func() bool { return b.engine.Stats().BytesIn == before+20 })
				if late {
					rec = b.record("")
					b.attached(1)
				}
				c.send(begun[20:])
				c.next()
				story(c, takeover)
				path := rec.file(15)
				checkFrames(t, path, portOf(b.addr), told(takeover, late))

				opening := tshark(t, path, "http", "http.request.uri", "http.response.code", "http.sec_websocket_accept", "frame.comment")
				if len(opening) != 2 || !strings.HasPrefix(opening[0], "/echo|") || !strings.HasPrefix(opening[1], "|101|") {
					t.Errorf("opening %q", opening)
				}
				comments := tshark(t, path, "tcp.flags.syn == 1 && tcp.flags.ack == 0", "frame.comment")
				if len(comments) != 1 || !strings.Contains(comments[0], "connection "+connectionID(c.session.ID())) || strings.Contains(comments[0], "made up") != late {
					t.Errorf("comments %q", comments)
				}
				if ends := tshark(t, path, "tcp.flags.fin == 1", "tcp.srcport"); len(ends) != 2 {
					t.Errorf("FINs from %q", ends)
				}
			})
		}
	}
}

// Two captures of different connections that have one in common: one has all of it, the other begins in the middle of a frame of a compressed
// message in fragments, which refers to the one before; a third has ended in the middle, too. tshark shows each whole, without TLS and with it.
func TestTsharkOverlapping(t *testing.T) {
	program.Find(t, "tshark")
	for _, secured := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secured), func(t *testing.T) {
			takeover := &session.Compression{ContextTakeover: true, MinBytes: 100}
			b := startOn(t, "127.0.0.1:0", secured, Limits{}, session.Endpoint{Path: "/echo", Handler: echo{}, Inline: true, Compression: takeover},
				session.Endpoint{Path: "/push", Handler: echo{}, Inline: true})
			all, gone := b.record("path=/echo"), b.capture("/tap?address=127.0.0.0/8")
			c := b.dial("/echo", "Sec-WebSocket-Extensions: permessage-deflate\r\n")
			b.attached(2)
			one, two, three := strings.Repeat("first ", 30)+".", strings.Repeat("first and second ", 10)+".", strings.Repeat("second and third ", 10)+"."
			d := newDeflater()
			c.send(compressed(masked(codec.OpText, true, d.message(one))))
			c.next()
			message := d.message(two)
			begun := slices.Concat(compressed(masked(codec.OpText, false, message[:4])), masked(codec.OpPing, true, "half"), masked(codec.OpContinuation, true, message[4:]))
			c.send(begun[:len(begun)-5])
			c.next() // a pong: the server has all that was sent
			b.mu.Lock()
			b.users[c.session.ID()] = "ada"
			b.mu.Unlock()
			late := b.record("user=ada")
			b.attached(3)
			gone.until("the pong", func(l Line) bool { return l.Name == "pong" })
			_ = gone.body.Close()
			b.attached(2)
			c.send(begun[len(begun)-5:])
			c.next()
			first, second := b.dial("/echo"), b.dial("/push")
			b.mu.Lock()
			b.users[second.session.ID()] = "ada"
			b.mu.Unlock()
			b.attached(4)
			for _, other := range []*wire{first, second} {
				other.send(text("only one"))
				other.next()
				_ = other.Close()
			}
			c.send(compressed(masked(codec.OpText, true, d.message(three))))
			c.next()
			c.send(masked(codec.OpClose, true, "\x03\xe8"))
			c.next()
			_ = c.Close()

			const key, deflated, inflated, half = "37fa213d ", "1 0x04 1 1 ", "1 0x00 0 1 ", " 68616c66"
			after := func(server string) []string {
				return []string{
					"client 1 0x00 0 0 1 " + key + two, "server " + server + "0 " + two, "client 1 0x00 1 1 " + key + "only one", "server 1 0x00 1 0 only one",
					"client " + inflated + "1 " + key + three, "server " + server + "0 " + three, "client 1 0x00 0 8 1 37fa213d 1000", "server 1 0x00 0 8 0 1000",
				}
			}
			const shown = 11 + 2 + 7 + 2 + 5
			for _, capture := range []struct {
				*recording
				want []string
			}{
				{all, append([]string{
					"client " + deflated + "1 " + key + one, "server " + deflated + "0 " + one, "client 0 0x00 0 1 1 37fa213d", "client 1 0x00 0 9 1 37fa213d" + half, "server 1 0x00 0 10 0" + half,
				}, after(deflated)...)},
				{late, append([]string{"client 0 0x00 0 1 1 00000000"}, after(inflated)...)},
			} {
				path := capture.file(shown)
				checkFrames(t, path, portOf(b.addr), capture.want)
				comments := tshark(t, path, "tcp.flags.syn == 1 && tcp.flags.ack == 0", "frame.comment")
				if len(comments) != 2 || strings.Contains(comments[0], "within TLS") != secured {
					t.Errorf("the connections are %q", comments)
				}
			}
		})
	}
}

func portOf(address string) int {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return 0
	}
	return a.Port
}

// written is a capture of events that did not happen.
func written(t *testing.T, r Redaction, events ...*Event) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "written.pcapng")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPcapng(file, func() error { return nil }, &Request{Redaction: r})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_800_000_000, 0)
	for _, e := range events {
		at = at.Add(time.Millisecond)
		e.Time = at
		if err := p.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(p.End(Summary{}), file.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func opening(id uint64, remote, local string, more ...func(*session.TapOpening)) *Event {
	key := "dGhlIHNhbXBsZSBub25jZQ=="
	o := &session.TapOpening{
		Path: "/push", Request: []byte("GET /push?token=abc HTTP/1.1\r\n" + openingHead + "Cookie: a=b\r\n\r\n"),
		Response: []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + session.AcceptKey(key) + "\r\n\r\n"),
	}
	if remote != "" {
		o.Remote, o.Local = netip.MustParseAddrPort(remote), netip.MustParseAddrPort(local)
	}
	for _, f := range more {
		f(o)
	}
	return &Event{TapEvent: session.TapEvent{Session: id, Opening: o}, Who: Who{User: "ada"}}
}

func frame(id uint64, fromClient bool, wire []byte) *Event {
	n := codec.HeaderBytes(wire)
	return &Event{TapEvent: session.TapEvent{Session: id, Frame: &session.TapFrame{
		FromClient: fromClient, Header: codec.ReadHeader(wire[:n]), Wire: wire[:n:n], Payload: wire[n:],
	}}}
}

func end(id uint64, why session.Reason) *Event {
	return &Event{TapEvent: session.TapEvent{Session: id, End: &session.Status{Reason: why}}}
}

// Whatever the ports and addresses are, tshark knows that it is WebSocket.
func TestTsharkAddresses(t *testing.T) {
	var events []*Event
	within := func(o *session.TapOpening) { o.TLS = true }
	for i, local := range []string{
		"10.0.0.1:80", "10.0.0.1:443", "10.0.0.1:8443", "10.0.0.1:8000", "10.0.0.1:9000", "127.0.0.1:54321", "[::1]:8000", "[2001:db8::1]:443", "",
	} {
		remote := "10.0.0.2:50000"
		switch {
		case strings.HasPrefix(local, "["):
			remote = "[2001:db8::2]:50000"
		case local == "":
			remote = ""
		}
		id := uint64(i + 1)
		events = append(events, opening(id, remote, local, within), frame(id, true, text(fmt.Sprint("to ", local))),
			frame(id, false, codec.AppendFrame(nil, codec.OpText, []byte("from "+local))), end(id, session.ReasonClientClose))
	}
	var texts []string
	for _, e := range events {
		if e.Frame != nil {
			texts = append(texts, strings.TrimSpace(string(e.Frame.Data())))
		}
	}
	path := written(t, Redaction{Whole: true}, events...)
	got := tshark(t, path, "websocket", "websocket.payload.text")
	for i := range got {
		got[i] = strings.TrimSpace(got[i])
	}
	if !slices.Equal(got, texts) {
		t.Errorf("tshark shows %q, want %q", got, texts)
	}
}

// packets reads a capture with gopacket, checks the TCP in it, and returns what each side has said, the comments and the flags of the last
// packet.
func packets(t *testing.T, path string) (said map[string]string, comments []string, last layers.TCP) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	said = map[string]string{}
	next := map[string]uint32{} // sequence number, by side
	for {
		b, info, options, err := r.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			return said, comments, last
		}
		if err != nil {
			t.Fatal(err)
		}
		comments = append(comments, options.Comments...)
		p := gopacket.NewPacket(b, layers.LayerTypeIPv4, gopacket.Default)
		tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok || p.ErrorLayer() != nil || info.Length != len(b) {
			t.Fatalf("%v", p)
		}
		from, to := fmt.Sprint(uint16(tcp.SrcPort)), fmt.Sprint(uint16(tcp.DstPort))
		_, answered := next[to]
		switch {
		case tcp.SYN && (tcp.ACK != answered || tcp.ACK && tcp.Ack != next[to]):
			t.Fatalf("a SYN with ack %t %d, want %t %d", tcp.ACK, tcp.Ack, answered, next[to])
		case tcp.SYN:
			next[from] = tcp.Seq
		case tcp.Seq != next[from] || tcp.Ack != next[to]:
			t.Fatalf("seq %d ack %d, want %d and %d", tcp.Seq, tcp.Ack, next[from], next[to])
		}
		if len(tcp.Payload) > mss {
			t.Fatalf("a segment of %d bytes", len(tcp.Payload))
		}
		next[from] += uint32(len(tcp.Payload))
		if tcp.SYN || tcp.FIN {
			next[from]++
		}
		said[from] += string(tcp.Payload)
		last = *tcp
	}
}

// TCP is consistent, frames are as they were on the wire, whatever their size, and secrets are not there.
func TestPackets(t *testing.T) {
	big := text(strings.Repeat("0123456789", 20_000))
	small := codec.AppendFrame(nil, codec.OpBinary, []byte{1, 2, 3})
	for reason, reset := range map[session.Reason]bool{
		session.ReasonClientClose: false, session.ReasonPeerGone: false, session.ReasonIOError: true, session.ReasonPongTimeout: false,
	} {
		path := written(t, Redaction{Whole: true}, opening(1, "10.0.0.2:5000", "10.0.0.1:80"), frame(1, true, big), frame(1, false, small), end(1, reason))
		said, comments, last := packets(t, path)
		request, frames, _ := strings.Cut(said["5000"], "\r\n\r\n")
		if frames != string(big) || !strings.HasSuffix(said["80"], "\r\n\r\n"+string(small)) {
			t.Errorf("%v: the frames are not as they were", reason)
		}
		if strings.Contains(request, "abc") || strings.Contains(request, "a=b") || !strings.Contains(request, "GET /push?token="+redacted) {
			t.Errorf("request %s", request)
		}
		if last.RST != reset {
			t.Errorf("%v: the last packet is %+v", reason, last)
		}
		if all := strings.Join(comments, "\n"); !strings.Contains(all, `user "ada"`) || !strings.Contains(all, reason.String()) {
			t.Errorf("comments %s", all)
		}
	}
}

// A name neither ends its comment nor commands the terminal that shows it, and hides nothing that comes after it.
func TestNamesInComments(t *testing.T) {
	hostile := opening(1, "10.0.0.2:5000", "10.0.0.1:80")
	hostile.Who = Who{User: "\x1b[2Jann\n\x00\u202e\xff" + strings.Repeat("x", 3000), Client: "c\x1b"}
	_, comments, _ := packets(t, written(t, Redaction{Whole: true}, hostile))
	if len(comments) == 0 || !strings.HasPrefix(comments[0], `connection 1, user "\x1b[2Jann\n\x00\u202e\xffxxx`) || !strings.HasSuffix(comments[0], `xxx", client "c\x1b", /push`) {
		t.Errorf("%q", comments)
	}
}

// What is not shown is covered, with the lengths as they were, and the close code stays.
func TestCoveredPackets(t *testing.T) {
	closing := masked(codec.OpClose, true, "\x0f\xa1secret")
	path := written(t, Redaction{PayloadBytes: 2}, opening(1, "10.0.0.2:5000", "10.0.0.1:80"), frame(1, true, text("secret")), frame(1, true, closing),
		frame(1, false, codec.AppendFrame(nil, codec.OpPing, []byte("secret"))))
	said, _, _ := packets(t, path)
	_, frames, _ := strings.Cut(said["5000"], "\r\n\r\n")
	want := string(text("sexxxx")) + string(masked(codec.OpClose, true, "\x0f\xa1xxxxxx"))
	if frames != want || !strings.HasSuffix(said["80"], string(codec.AppendFrame(nil, codec.OpPing, []byte("sexxxx")))) {
		t.Errorf("%x, want %x", frames, want)
	}
}

// compressedFrame is a server's, with what a tap says of it.
func compressedFrame(id uint64, payload, message, err string) *Event {
	e := frame(id, false, compressed(codec.AppendFrame(nil, codec.OpText, []byte(payload))))
	e.Frame.Message = &session.TapMessage{Opcode: codec.OpText, Inflated: []byte(message), Err: err}
	return e
}

// After a gap in the messages of a connection with takeover, and in a frame that is cut, messages are written without compression; without
// takeover they stay as they were.
func TestGapsInPackets(t *testing.T) {
	for _, takeover := range []bool{false, true} {
		agreed := func(o *session.TapOpening) { o.Deflate, o.ServerTakeover = true, takeover }
		d := newDeflater()
		first := d.message("first message")
		if !takeover {
			d = newDeflater()
		}
		second := d.message("second message")
		gap := &Event{TapEvent: session.TapEvent{Session: 1, Gap: &session.TapGap{Frames: 3, Bytes: 99}}}
		cut := frame(1, false, compressed(codec.AppendFrame(nil, codec.OpText, []byte("abcdef"))))
		cut.Frame.Payload, cut.Frame.Cut = cut.Frame.Payload[:3], true
		cut.Frame.Message = &session.TapMessage{Err: "it is too long"}
		path := written(t, Redaction{Whole: true}, opening(1, "10.0.0.2:5000", "10.0.0.1:80", agreed), compressedFrame(1, first, "first message", ""),
			gap, compressedFrame(1, second, "second message", ""), cut)
		said, comments, _ := packets(t, path)
		_, frames, _ := strings.Cut(said["80"], "\r\n\r\n")
		after := compressed(codec.AppendFrame(nil, codec.OpText, []byte(second)))
		if takeover {
			after = codec.AppendFrame(nil, codec.OpText, []byte("second message"))
		}
		want := string(compressed(codec.AppendFrame(nil, codec.OpText, []byte(first)))) + string(after) +
			string(codec.AppendFrame(nil, codec.OpText, []byte("[millpond: it is too long]")))
		if frames != want {
			t.Errorf("takeover %v: %q, want %q", takeover, frames, want)
		}
		if all := strings.Join(comments, "\n"); !strings.Contains(all, "gap: 3 frames with 99 bytes of the server") || !strings.Contains(all, "not inflated") {
			t.Errorf("comments %s", all)
		}
	}
}
