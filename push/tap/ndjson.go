package tap

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millpond/millpond/codec"
	"github.com/millpond/millpond/session"
)

// Line is one of a capture in JSON. Type says which of the fields there are.
type Line struct {
	Type       string `json:"type"` // tap, open, who, frame, gap, fault, end, done
	Time       string `json:"time,omitempty"`
	Connection string `json:"connection,omitempty"`
	User       string `json:"user,omitempty"`
	Client     string `json:"client,omitempty"`

	// Of tap, the first line: what is captured, and how much of payloads is shown; -1 is all.
	Filter       string `json:"filter,omitempty"`
	PayloadBytes *int   `json:"payload_bytes,omitempty"`

	// Of open.
	Remote        string `json:"remote,omitempty"`
	Local         string `json:"local,omitempty"`
	ClientAddress string `json:"client_address,omitempty"`
	Path          string `json:"path,omitempty"`
	TLS           bool   `json:"tls,omitempty"`
	Synthesised   bool   `json:"synthesised,omitempty"`
	Request       string `json:"request,omitempty"`
	Response      string `json:"response,omitempty"`
	Key           string `json:"key,omitempty"`    // Sec-WebSocket-Key
	Accept        string `json:"accept,omitempty"` // computed from it
	Extensions    string `json:"extensions,omitempty"`

	// Of frame, gap and fault.
	From string `json:"from,omitempty"` // client or server

	// Of frame. Header is as it was on the wire, in hex; Wire the payload as it was there, Data without its mask, in base64.
	Fin     *bool   `json:"fin,omitempty"`
	RSV     *int    `json:"rsv,omitempty"` // RSV1 is 4
	Opcode  *int    `json:"opcode,omitempty"`
	Name    string  `json:"name,omitempty"` // of the opcode
	Masked  *bool   `json:"masked,omitempty"`
	Mask    string  `json:"mask,omitempty"`
	Length  *int64  `json:"length,omitempty"`
	Header  string  `json:"header,omitempty"`
	Wire    []byte  `json:"wire,omitempty"`
	Data    []byte  `json:"data,omitempty"` // if it is no text
	Text    *string `json:"text,omitempty"` // if it is
	Hidden  int64   `json:"hidden,omitempty"`
	Cut     bool    `json:"cut,omitempty"`
	Joined  bool    `json:"joined,omitempty"`
	Message *Whole  `json:"message,omitempty"`

	// Of frame, if it is a close frame, of fault and of end.
	Code   int    `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
	Kind   string `json:"kind,omitempty"`

	// Of gap; of done, where Frames are those shown.
	Frames      *int64 `json:"frames,omitempty"`
	Bytes       *int64 `json:"bytes,omitempty"`
	Dropped     *int64 `json:"dropped,omitempty"`
	Connections *int64 `json:"connections,omitempty"`
}

// Whole is a message that was compressed.
type Whole struct {
	Length int     `json:"length"`
	Data   []byte  `json:"data,omitempty"`
	Text   *string `json:"text,omitempty"`
	Hidden int64   `json:"hidden,omitempty"`
	Error  string  `json:"error,omitempty"`
}

// lines writes a capture as lines of JSON.
type lines struct {
	out       io.Writer
	flush     func() error
	redaction Redaction
	encoder   *json.Encoder
}

// newLines writes the first line too.
func newLines(out io.Writer, flush func() error, r *Request) (*lines, error) {
	l := &lines{out: out, flush: flush, redaction: r.Redaction, encoder: json.NewEncoder(out)}
	l.encoder.SetEscapeHTML(false)
	n := r.PayloadBytes
	if r.Whole {
		n = -1
	}
	return l, l.encoder.Encode(&Line{Type: "tap", Time: stamp(time.Now()), Filter: r.words(), PayloadBytes: &n})
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// connectionID is a session's id as logs and clients of the plain protocol have it.
func connectionID(id uint64) string { return strconv.FormatUint(id, 36) }

func side(fromClient bool) string {
	if fromClient {
		return "client"
	}
	return "server"
}

// Flush implements Writer.
func (l *lines) Flush() error { return l.flush() }

// End implements Writer.
func (l *lines) End(s Summary) error {
	err := l.encoder.Encode(&Line{
		Type: "done", Time: stamp(time.Now()), Reason: s.Reason, Frames: &s.Frames, Dropped: &s.Dropped, Connections: &s.Connections,
	})
	if err != nil {
		return err
	}
	return l.flush()
}

// Write implements Writer.
func (l *lines) Write(e *Event) error {
	line := &Line{Time: stamp(e.Time), Connection: connectionID(e.Session)}
	switch {
	case e.Known:
		line.Type, line.User, line.Client = "who", e.Who.User, e.Who.Client
	case e.Opening != nil:
		line.User, line.Client = e.Who.User, e.Who.Client
		l.open(line, e.Opening)
	case e.Frame != nil:
		l.frame(line, e.Frame)
	case e.Gap != nil:
		line.Type, line.From, line.Frames, line.Bytes = "gap", side(e.Gap.FromClient), &e.Gap.Frames, &e.Gap.Bytes
	case e.Fault != nil:
		line.Type, line.From, line.Kind, line.Code, line.Reason = "fault", "client", e.Fault.Kind, int(e.Fault.Code), e.Fault.Reason
	case e.End != nil:
		line.Type, line.Kind, line.Code = "end", e.End.Reason.String(), int(e.End.Code)
		if l.redaction.Whole {
			line.Reason = e.End.Text
		}
	}
	return l.encoder.Encode(line)
}

func (l *lines) open(line *Line, o *session.TapOpening) {
	line.Type, line.Path, line.TLS, line.Synthesised = "open", o.Path, o.TLS, o.Synthesised
	if o.Remote.IsValid() {
		line.Remote, line.Local = o.Remote.String(), o.Local.String()
	}
	if o.Client.IsValid() {
		line.ClientAddress = o.Client.String()
	}
	line.Request, line.Response = string(l.redaction.opening(o.Request)), string(l.redaction.opening(o.Response))
	line.Key = field(o.Request, "Sec-WebSocket-Key")
	line.Accept = session.AcceptKey(line.Key)
	line.Extensions = field(o.Response, "Sec-WebSocket-Extensions")
}

// field returns the value of the first field with a name in a header, or "".
func field(head []byte, name string) string {
	for line := range strings.SplitSeq(string(head), "\r\n") {
		if n, value, found := strings.Cut(line, ":"); found && strings.EqualFold(n, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (l *lines) frame(line *Line, f *session.TapFrame) {
	h := f.Header
	rsv, opcode := int(h.RSV), int(h.Opcode)
	line.Type, line.From = "frame", side(f.FromClient)
	line.Fin, line.RSV, line.Opcode, line.Name, line.Masked, line.Length = &h.Fin, &rsv, &opcode, h.Opcode.String(), &h.Masked, &h.Length
	if h.Masked {
		line.Mask = hex.EncodeToString(h.Mask[:])
	}
	line.Header, line.Cut, line.Joined = hex.EncodeToString(f.Wire), f.Cut, f.Joined
	data := f.Data()
	if h.Opcode == codec.OpClose {
		l.close(line, data)
	}
	shown := l.redaction.of(h.Opcode).show(data)
	if !l.redaction.Whole && f.Deflated {
		shown = nil // it may inflate to more than is to be seen
	}
	line.Wire = f.Payload[:len(shown)]
	line.Hidden = h.Length - int64(len(shown))
	line.Text, line.Data = textOr(shown, h)
	if m := f.Message; m != nil {
		shown := l.redaction.show(m.Inflated)
		line.Message = &Whole{Length: len(m.Inflated), Hidden: int64(len(m.Inflated) - len(shown)), Error: m.Err}
		line.Message.Text, line.Message.Data = asText(shown)
	}
}

// close tells code and reason.
func (l *lines) close(line *Line, payload []byte) {
	if len(payload) < 2 {
		line.Code = int(codec.StatusNoStatus)
		return
	}
	line.Code = int(payload[0])<<8 | int(payload[1])
	if shown := l.redaction.show(payload); len(shown) > 2 && utf8.Valid(shown[2:]) {
		line.Reason = string(shown[2:])
	}
}

// textOr is asText for the payload of a frame, which is none if it is compressed or a close frame's.
func textOr(b []byte, h session.TapHeader) (*string, []byte) {
	if h.RSV != 0 || h.Opcode == codec.OpClose {
		return nil, b
	}
	return asText(b)
}

// asText returns b as text, or if it is none as it is. A code point that was cut in two at the end is left out.
func asText(b []byte) (*string, []byte) {
	for cut := 0; cut < utf8.UTFMax && cut <= len(b); cut++ {
		if b := b[:len(b)-cut]; utf8.Valid(b) {
			s := string(b)
			return &s, nil
		}
	}
	return nil, b
}
