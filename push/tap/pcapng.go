package tap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/session"
)

// pcapng writes a capture as packets: the TCP around the frames is made up, with the real addresses where there are any.
type pcapng struct {
	out       *pcapgo.NgWriter
	flush     func() error
	redaction Redaction
	buffer    gopacket.SerializeBuffer
	flows     map[uint64]*flow
	unix      uint16 // ports given to connections without any
}

// flow is a connection as it is in the capture. The sides are indexes: 0 is the server, 1 the client.
type flow struct {
	addr     [2]netip.AddrPort
	seq      [2]uint32 // of the next byte
	acked    [2]uint32 // what the other side has acknowledged
	takeover [2]bool   // whose compressed messages may refer to those before
	lost     [2]bool   // a reader cannot inflate them: it has not seen all of those before
	inflated [2]bool   // the message under way is written without compression
	begun    [2]int    // bytes of it that its first frame has
	comments []string  // for the next packet
}

const (
	server = 0
	client = 1

	// mss is what a packet carries: what fits into Ethernet's, with either kind of IP.
	mss = 1440
	// maxUnacked is after how many bytes the other side acknowledges: half of the window, which is not scaled.
	maxUnacked = 32 << 10
	window     = 65535
	// maxComment bounds a comment, which may have a user's name, and whose length has 16 bits.
	maxComment = 1024
)

// Where connections without addresses are, unix sockets, in networks that are for examples (RFC 5737).
var (
	unixServer = netip.MustParseAddrPort("192.0.2.1:80")
	unixClient = netip.MustParseAddr("192.0.2.2")
)

// newPcapng writes the head of the capture too.
func newPcapng(out io.Writer, flush func() error, r *Request) (*pcapng, error) {
	comment := "WebSocket frames of " + r.words() + "; TCP and IP are made up"
	if !r.Whole {
		comment += fmt.Sprintf("; payloads are covered by %q after %d bytes", filler, r.PayloadBytes)
	}
	w, err := pcapgo.NewNgWriterInterface(out, pcapgo.NgInterface{
		Name: "millpond", Description: "frames as they are on the wire", OS: runtime.GOOS, LinkType: layers.LinkTypeRaw,
	}, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "millpond tap", Comment: comment,
	}})
	if err != nil {
		return nil, err
	}
	p := &pcapng{out: w, flush: flush, redaction: r.Redaction, buffer: gopacket.NewSerializeBuffer(), flows: map[uint64]*flow{}}
	return p, p.out.Flush()
}

// Flush implements Writer.
func (p *pcapng) Flush() error {
	if err := p.out.Flush(); err != nil {
		return err
	}
	return p.flush()
}

// End implements Writer.
func (p *pcapng) End(Summary) error { return p.Flush() }

// Write implements Writer.
func (p *pcapng) Write(e *Event) error {
	if e.Opening != nil {
		return p.open(e)
	}
	f := p.flows[e.Session]
	if f == nil {
		return nil
	}
	switch {
	case e.Known:
		f.comment("%s", about(e))
	case e.Frame != nil:
		return p.frame(e.Time, f, e.Frame)
	case e.Gap != nil:
		from := index(e.Gap.FromClient)
		f.lost[from] = f.lost[from] || f.takeover[from]
		f.comment("gap: %d frames with %d bytes of the %s are left out before this packet", e.Gap.Frames, e.Gap.Bytes, side(e.Gap.FromClient))
	case e.Fault != nil:
		f.comment("fault of the client: %s (%d %s)", e.Fault.Kind, e.Fault.Code, e.Fault.Reason)
	case e.End != nil:
		delete(p.flows, e.Session)
		f.comment("the connection ended: %s", e.End.Reason)
		return p.end(e.Time, f, e.End)
	}
	return nil
}

func index(fromClient bool) int {
	if fromClient {
		return client
	}
	return server
}

// about says whose a connection is. Names are quoted: some who read comments do so in a terminal.
func about(e *Event) string {
	words := []string{"connection " + connectionID(e.Session)}
	if e.Who.User != "" {
		words = append(words, fmt.Sprintf("user %.256q", e.Who.User))
	}
	if e.Who.Client != "" && e.Who.Client != connectionID(e.Session) {
		words = append(words, fmt.Sprintf("client %.256q", e.Who.Client))
	}
	return strings.Join(words, ", ")
}

func (f *flow) comment(format string, args ...any) {
	words := fmt.Sprintf(format, args...)
	f.comments = append(f.comments, strings.ToValidUTF8(words[:min(len(words), maxComment)], "\uFFFD"))
}

// open writes TCP's handshake and the opening one.
func (p *pcapng) open(e *Event) error {
	o := e.Opening
	f := &flow{addr: p.addresses(o), seq: [2]uint32{rand.Uint32(), rand.Uint32()}} // not a secret: they are made up
	f.takeover[client], f.takeover[server] = o.ClientTakeover, o.ServerTakeover
	f.acked = f.seq
	p.flows[e.Session] = f
	f.comment("%s, %s", about(e), o.Path)
	if o.Synthesised {
		f.comment("the connection was open when the capture began: its opening is made up")
		f.lost = f.takeover
	}
	if o.TLS {
		f.comment("these bytes were within TLS")
	}
	if !o.Remote.IsValid() {
		f.comment("a unix socket: the addresses are made up")
	} else if o.Client.IsValid() && o.Client.Unmap() != o.Remote.Addr().Unmap() {
		f.comment("the client's address is %s; the one here is a proxy's", o.Client)
	}
	for _, s := range []struct {
		from int
		tcp  layers.TCP
	}{{client, layers.TCP{SYN: true}}, {server, layers.TCP{SYN: true, ACK: true}}, {client, layers.TCP{ACK: true}}} {
		if s.tcp.SYN {
			size := binary.BigEndian.AppendUint16(nil, mss)
			s.tcp.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: size}}
		}
		if err := p.packet(e.Time, f, s.from, &s.tcp, nil); err != nil {
			return err
		}
		if s.tcp.SYN {
			f.seq[s.from]++
			f.acked[s.from]++
		}
	}
	if err := p.data(e.Time, f, client, p.redaction.opening(o.Request)); err != nil {
		return err
	}
	return p.data(e.Time, f, server, p.redaction.opening(o.Response))
}

// addresses are those of the socket, both of the same kind, or made-up ones.
func (p *pcapng) addresses(o *session.TapOpening) [2]netip.AddrPort {
	remote, local := plainAddress(o.Remote), plainAddress(o.Local)
	if remote.IsValid() && local.IsValid() && remote.Addr().Is4() == local.Addr().Is4() {
		return [2]netip.AddrPort{server: local, client: remote}
	}
	p.unix++
	return [2]netip.AddrPort{server: unixServer, client: netip.AddrPortFrom(unixClient, 10_000+p.unix%50_000)}
}

func plainAddress(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// frame writes one, as it was on the wire if a reader of the capture can make something of it.
func (p *pcapng) frame(at time.Time, f *flow, frame *session.TapFrame) error {
	from := index(frame.FromClient)
	head, payload := frame.Wire, frame.Payload
	if frame.Joined {
		f.comment("what the frames of this message brought before the capture began, in one; its masking key is made up")
	}
	if h, b, changed := p.rewrite(f, from, frame); changed {
		h.Length = int64(len(b))
		head = h.AppendWire(nil)
		if h.Masked {
			codec.Mask(b, h.Mask)
		}
		payload = b
	}
	return p.data(at, f, from, append(head[:len(head):len(head)], payload...))
}

// rewrite returns a frame's header and its payload without a mask, if they are not to be as they were.
func (p *pcapng) rewrite(f *flow, from int, frame *session.TapFrame) (h session.TapHeader, payload []byte, changed bool) {
	h = frame.Header
	if !h.Opcode.IsControl() && h.Opcode != codec.OpContinuation {
		// Wireshark does not inflate what comes in fragments, and takes the first of them for nothing if it is empty.
		f.inflated[from] = h.Compressed() && (f.lost[from] || !h.Fin || !p.redaction.Whole || frame.Cut)
		if f.inflated[from] {
			f.lost[from] = f.takeover[from] // a reader will not have seen this message compressed
			f.comment("this message was compressed, with %d bytes in this frame: here it is not, and all but its first byte is in its last frame", frame.Header.Length)
		}
	}
	payload = frame.Data()
	redaction := p.redaction.of(h.Opcode)
	if f.inflated[from] && !h.Opcode.IsControl() {
		changed, h.RSV = true, h.RSV&^4
		if h.Opcode != codec.OpContinuation {
			f.begun[from] = len(frame.First)
		}
		if !h.Fin {
			return h, p.redaction.cover(bytes.Clone(frame.First), false), true
		}
		f.inflated[from] = false
		payload, redaction = p.redaction.cover(p.inflated(f, frame), false), Redaction{Whole: true}
		payload = payload[min(f.begun[from], len(payload)):]
	}
	if frame.Cut {
		changed = true
		f.comment("%d of the frame's %d bytes are here", len(payload), frame.Header.Length)
	}
	if len(redaction.show(payload)) < len(payload) {
		payload, changed = redaction.cover(payload, h.Opcode == codec.OpClose), true
	}
	return h, payload, changed
}

// inflated returns the message that ends with a frame, or why it is not known.
func (p *pcapng) inflated(f *flow, frame *session.TapFrame) []byte {
	m := frame.Message
	switch {
	case m == nil:
		return []byte("[millpond: " + "the beginning of the message was left out" + "]")
	case m.Err != "" && len(m.Inflated) == 0:
		f.comment("not inflated: %s", m.Err)
		return []byte("[millpond: " + m.Err + "]")
	case m.Err != "":
		f.comment("inflated in part: %s", m.Err)
	}
	return append([]byte(nil), m.Inflated...)
}

// data writes bytes of one side, and acknowledgements of the other.
func (p *pcapng) data(at time.Time, f *flow, from int, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), mss)
		if err := p.packet(at, f, from, &layers.TCP{ACK: true, PSH: n == len(b)}, b[:n]); err != nil {
			return err
		}
		f.seq[from] += uint32(n)
		b = b[n:]
		f.acked[1-from] = f.seq[1-from]
		if f.seq[from]-f.acked[from] >= maxUnacked {
			if err := p.ack(at, f, 1-from); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pcapng) ack(at time.Time, f *flow, from int) error {
	f.acked[1-from] = f.seq[1-from]
	return p.packet(at, f, from, &layers.TCP{ACK: true}, nil)
}

// end writes how TCP ends: by a reset, or in both directions, that first which was first to have said all.
func (p *pcapng) end(at time.Time, f *flow, why *session.Status) error {
	first := server
	switch why.Reason {
	case session.ReasonIOError, session.ReasonTLSError, session.ReasonTLSTruncated:
		return p.packet(at, f, client, &layers.TCP{RST: true, ACK: true}, nil)
	case session.ReasonPeerGone:
		first = client
	}
	for _, from := range []int{first, 1 - first} {
		if err := p.packet(at, f, from, &layers.TCP{FIN: true, ACK: true}, nil); err != nil {
			return err
		}
		f.seq[from]++
	}
	return p.ack(at, f, first)
}

// packet writes one.
func (p *pcapng) packet(at time.Time, f *flow, from int, tcp *layers.TCP, payload []byte) error {
	source, target := f.addr[from], f.addr[1-from]
	tcp.SrcPort, tcp.DstPort = layers.TCPPort(source.Port()), layers.TCPPort(target.Port())
	tcp.Seq, tcp.Window = f.seq[from], window
	if tcp.ACK {
		tcp.Ack = f.seq[1-from]
	}
	var ip gopacket.SerializableLayer
	if source.Addr().Is4() {
		v4 := &layers.IPv4{Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolTCP, SrcIP: source.Addr().AsSlice(), DstIP: target.Addr().AsSlice()}
		_ = tcp.SetNetworkLayerForChecksum(v4) // knows this kind
		ip = v4
	} else {
		v6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: source.Addr().AsSlice(), DstIP: target.Addr().AsSlice()}
		_ = tcp.SetNetworkLayerForChecksum(v6)
		ip = v6
	}
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(p.buffer, options, ip, tcp, gopacket.Payload(payload)); err != nil {
		return fmt.Errorf("tap: packet: %w", err)
	}
	b := p.buffer.Bytes()
	comments := f.comments
	f.comments = nil
	return p.out.WritePacketWithOptions(
		gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(b), Length: len(b)}, b, pcapgo.NgPacketOptions{Comments: comments})
}
