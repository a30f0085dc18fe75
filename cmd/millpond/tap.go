package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/millpond/millpond/push"
)

// tapCommand prints the frames of chosen connections while they run, or writes them to a capture.
type tapCommand struct {
	URL        string `name:"url" help:"The server's internal address." default:"http://127.0.0.1:8001"`
	APIKeyFile string `name:"api-key-file" help:"File with a key for the API, in its first line, that has the scope tap." type:"existingfile" placeholder:"FILE"`
	CA         string `name:"ca" help:"File with the certificates of the authorities to trust." type:"existingfile" placeholder:"FILE"`

	Client      string `help:"Only the connection with this id, of the log or of the client's protocol." placeholder:"ID"`
	User        string `help:"Only connections of this user."`
	Channel     string `help:"Only subscribers of this channel."`
	Address     string `help:"Only clients of this address, or of this network." placeholder:"CIDR"`
	Path        string `help:"Only connections to this path: /push, /connection/websocket or /echo."`
	Sample      int    `help:"Only 1 of N connections, at random." placeholder:"N"`
	Connections int    `help:"At most N connections at a time; 0: what the server allows." placeholder:"N"`

	Count        int64         `help:"End after N frames; 0: never." placeholder:"N"`
	Duration     time.Duration `help:"End after this time; 0: when the server ends it."`
	PayloadBytes *int          `help:"Show N bytes of each payload, -1: all; default: what the key allows." placeholder:"N"`
	Secrets      bool          `help:"Show tokens and cookies of opening requests too."`

	JSON  bool   `name:"json" help:"Print lines of JSON." xor:"form"`
	Write string `help:"Write a capture in pcapng, for Wireshark; - is the standard output." placeholder:"FILE" xor:"form"`
}

// Run shows frames until the capture or ctx ends.
func (c *tapCommand) Run(ctx context.Context, s *streams) error {
	response, err := c.ask(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil // it was told to end
	case err != nil:
		return err
	}
	defer response.Body.Close()
	switch {
	case c.Write != "":
		err = c.save(response.Body, s)
	case c.JSON:
		_, err = io.Copy(s.out, response.Body)
	default:
		err = printLines(response.Body, s)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// ask begins a capture.
func (c *tapCommand) ask(ctx context.Context) (*http.Response, error) {
	client, err := httpClient(c.CA)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.URL, "/")+"/tap?"+c.query().Encode(), nil)
	if err != nil {
		return nil, err
	}
	key, err := readSecret(c.APIKeyFile)
	if err != nil {
		return nil, fmt.Errorf("api-key-file: %w", err)
	}
	if first, _, _ := bytes.Cut(key, []byte("\n")); len(first) > 0 {
		request.Header.Set("X-API-Key", string(bytes.TrimSpace(first)))
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	var answer struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if json.Unmarshal(body, &answer) != nil || answer.Error.Message == "" {
		return nil, fmt.Errorf("%s: the answer, %s, is not that of a millpond that can tap", c.URL, response.Status)
	}
	return nil, errors.New(printable(answer.Error.Message))
}

// query has what was said on the command line.
func (c *tapCommand) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{
		"id": c.Client, "user": c.User, "channel": c.Channel, "address": c.Address, "path": c.Path,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, value := range map[string]int64{"sample": int64(c.Sample), "connections": int64(c.Connections), "count": c.Count} {
		if value != 0 {
			q.Set(name, strconv.FormatInt(value, 10))
		}
	}
	if c.Duration != 0 {
		q.Set("duration", c.Duration.String())
	}
	if c.PayloadBytes != nil {
		q.Set("payload_bytes", strconv.Itoa(*c.PayloadBytes))
	}
	if c.Secrets {
		q.Set("secrets", "true")
	}
	if c.Write != "" {
		q.Set("format", "pcapng")
	}
	return q
}

// save writes the capture to a file, from the first packet on, so that another program can follow it.
func (c *tapCommand) save(body io.Reader, s *streams) error {
	if c.Write == "-" {
		_, err := io.Copy(s.out, body)
		return err
	}
	file, err := os.OpenFile(c.Write, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) // others are not to read what clients say
	if err != nil {
		return err
	}
	n, err := io.Copy(file, body)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.err, "millpond: %d bytes in %s\n", n, c.Write)
	return err
}

// printer prints a capture for people.
type printer struct {
	out    io.Writer
	colour bool
}

// printLines prints a capture, line by line.
func printLines(body io.Reader, s *streams) error {
	p := &printer{out: s.out, colour: wantsColor(s.out)}
	in := bufio.NewReader(body)
	for {
		b, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(b) == 0 {
			return errors.New("the server has ended the capture without a word")
		}
		if err != nil {
			return err
		}
		var line push.TapLine
		if err := json.Unmarshal(b, &line); err != nil {
			return fmt.Errorf("the server sent %.100q: %w", b, err)
		}
		if !whole(&line) {
			return fmt.Errorf("the server sent %.100q, in which something is missing", b)
		}
		if err := p.line(&line); err != nil || line.Type == "done" {
			return err
		}
	}
}

// whole reports whether a line has what its type wants.
func whole(l *push.TapLine) bool {
	switch l.Type {
	case "tap":
		return l.PayloadBytes != nil
	case "frame":
		return l.Fin != nil && l.RSV != nil && l.Opcode != nil && l.Masked != nil && l.Length != nil
	case "gap":
		return l.Frames != nil && l.Bytes != nil
	case "done":
		return l.Frames != nil && l.Connections != nil && l.Dropped != nil
	}
	return true
}

// printable replaces what could command a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// The colours, as SGR parameters of ECMA-48.
const (
	faint  = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (p *printer) paint(colour, s string) string {
	if !p.colour {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// line prints one. What clients and servers say is quoted, and the rest made printable, so that it cannot command the terminal.
func (p *printer) line(l *push.TapLine) error {
	for _, s := range []*string{&l.Connection, &l.Filter, &l.Path, &l.Remote, &l.ClientAddress, &l.Name, &l.Mask, &l.Kind} {
		*s = printable(*s)
	}
	var text string
	switch l.Type {
	case "tap":
		text = p.paint(faint, "looking at "+l.Filter+payloadNote(*l.PayloadBytes))
	case "done":
		text = p.paint(faint, fmt.Sprintf("done (%s): %d frames of %d connections, %d left out", printable(l.Reason), *l.Frames, *l.Connections, *l.Dropped))
	case "open":
		text = p.open(l)
	case "who":
		text = p.paint(faint, "known as"+cmp.Or(who(l), " nobody"))
	case "frame":
		text = p.frame(l)
	case "gap":
		text = p.paint(yellow, fmt.Sprintf("%s left out: %d frames with %d bytes", arrow(l.From), *l.Frames, *l.Bytes))
	case "fault":
		text = p.paint(red, fmt.Sprintf("%s FAULT %s: %s (closed with %d)", arrow(l.From), l.Kind, printable(l.Reason), l.Code))
	case "end":
		text = p.paint(faint, "end: "+l.Kind+closeNote(l))
	}
	at, _ := time.Parse(time.RFC3339Nano, l.Time)
	_, err := fmt.Fprintf(p.out, "%s %s %s\n", p.paint(faint, at.Local().Format("15:04:05.000000")), l.Connection, text)
	return err
}

func payloadNote(n int) string {
	switch {
	case n < 0:
		return ""
	case n == 0:
		return "; payloads are not shown"
	}
	return fmt.Sprintf("; the first %d bytes of payloads are shown", n)
}

func who(l *push.TapLine) (text string) {
	if l.User != "" {
		text += fmt.Sprintf(" user %q", l.User)
	}
	if l.Client != "" && l.Client != l.Connection {
		text += fmt.Sprintf(" client %q", l.Client)
	}
	return text
}

func arrow(from string) string {
	if from == "client" {
		return "→"
	}
	return "←"
}

func (p *printer) open(l *push.TapLine) string {
	text := "open " + l.Path
	if l.Remote != "" {
		text += " from " + l.Remote
	} else {
		text += " over a unix socket"
	}
	if l.ClientAddress != "" && !strings.Contains(l.Remote, l.ClientAddress) {
		text += " for " + l.ClientAddress
	}
	if l.TLS {
		text += " over TLS"
	}
	text += who(l)
	if l.Extensions != "" {
		text += " " + strconv.Quote(l.Extensions)
	}
	if l.Synthesised {
		return p.paint(faint, text+" (before the capture)")
	}
	lines := []string{text}
	for line := range strings.SplitSeq(strings.TrimSpace(l.Request)+"\r\n"+strings.TrimSpace(l.Response), "\r\n") {
		quoted := strconv.Quote(line)
		lines = append(lines, "    "+p.paint(faint, quoted[1:len(quoted)-1]))
	}
	return strings.Join(lines, "\n")
}

// rsv names the reserved bits, the first of which is the highest.
var rsv = [8]string{"", " RSV3", " RSV2", " RSV2 RSV3", " RSV1", " RSV1 RSV3", " RSV1 RSV2", " RSV1 RSV2 RSV3"}

func (p *printer) frame(l *push.TapLine) string {
	colour := green
	switch {
	case *l.Opcode >= 8:
		colour = yellow
	case l.From == "client":
		colour = cyan
	}
	bits := l.Name
	if l.Name == "reserved" {
		bits += fmt.Sprintf(" 0x%x", *l.Opcode)
	}
	if *l.Fin {
		bits += " FIN"
	}
	bits += rsv[*l.RSV&7]
	if *l.Masked {
		bits += " mask " + l.Mask
	}
	text := p.paint(colour, arrow(l.From)+" "+bits) + fmt.Sprintf(" %d B", *l.Length)
	switch {
	case l.Message != nil && l.Message.Error != "":
		text += p.paint(red, " not inflated: "+printable(l.Message.Error))
	case l.Message != nil:
		text += fmt.Sprintf(" inflated %d B", l.Message.Length) + content(l.Message.Text, l.Message.Data, l.Message.Hidden)
	case l.Name == "close":
		text += closeNote(l)
	default:
		text += content(l.Text, l.Data, l.Hidden)
	}
	if l.Joined {
		text += p.paint(faint, " (earlier frames of the message, in one)")
	}
	if l.Cut {
		text += p.paint(yellow, " (cut)")
	}
	return text
}

// content is what is shown of a payload.
func content(text *string, data []byte, hidden int64) (s string) {
	switch {
	case text != nil && *text != "":
		s = " " + strconv.Quote(*text)
	case len(data) > 0:
		s = fmt.Sprintf(" % x", data)
	}
	if hidden > 0 {
		s += fmt.Sprintf(" … %d B not shown", hidden)
	}
	return s
}

func closeNote(l *push.TapLine) (text string) {
	if l.Code != 0 {
		text = fmt.Sprintf(" %d", l.Code)
	}
	if l.Reason != "" {
		text += " " + strconv.Quote(l.Reason)
	}
	return text
}
