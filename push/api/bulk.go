package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/time/rate"

	"github.com/millpond/millpond/push/hub"
)

// The sizes of a bulk's buffers: what is read at once, and what waits until it is written.
const (
	bulkReadBytes  = 32 << 10
	bulkWriteBytes = 8 << 10
)

// bulkLine is a publish or, with Channels or Users, a broadcast.
type bulkLine struct {
	Channel  string   `json:"channel"`
	Channels []string `json:"channels"`
	Users    []string `json:"users"`
	message
}

// stream is a bulk under way. It belongs to the goroutine of its request.
type stream struct {
	handler *Handler
	call    *call
	ctx     context.Context
	w       http.ResponseWriter
	control *http.ResponseController
	in      *bufio.Reader
	out     []byte // answers that wait
	long    []byte // a line that does not fit into in
	number  int    // of the line
	failed  int    // lines
	ended   bool   // the last one came
}

// bulk carries out the lines of a body as they come, and answers each with a line. It keeps one line in memory, and a
// few answers: a caller that does not read them is not read from.
func (h *Handler) bulk(w http.ResponseWriter, r *http.Request, c *call) (any, error) {
	if err := enter(h.streams, c, "bulks under way"); err != nil {
		return nil, err
	}
	defer func() { <-h.streams }()
	ctx, cancel := context.WithCancel(context.WithValue(r.Context(), callKey{}, c))
	defer cancel()
	s := &stream{handler: h, call: c, ctx: ctx, w: w, control: http.NewResponseController(w), in: bufio.NewReaderSize(r.Body, bulkReadBytes)}
	stopped := make(chan struct{})
	stop := context.AfterFunc(h.stopped, func() {
		cancel()
		_ = s.control.SetReadDeadline(time.Now())
		close(stopped)
	})
	defer func() {
		if !stop() {
			<-stopped // w is not to be used any more
		}
	}()
	_ = s.control.EnableFullDuplex() // HTTP/1.1 without it would read all before it answers
	c.status = http.StatusOK
	header := w.Header()
	header.Set("Content-Type", "application/x-ndjson")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Accel-Buffering", "no") // for proxies that would wait for more
	if r.Header.Get("Expect") == "" {     // else the caller would not be asked for the body
		_ = s.control.Flush()
	}
	err := s.run(r.URL.Query().Get("on_error") == "stop")
	if !s.ended {
		_ = s.control.SetReadDeadline(time.Now()) // net/http would wait for the rest
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(h.config.Timeout)) // for the end of the answer
	if err == nil && s.failed > 0 {
		err = fmt.Errorf("%w: %d of %d lines", hub.ErrBadRequest, s.failed, s.number)
	}
	return nil, err
}

// run does all lines, or those up to the first that fails.
func (s *stream) run(stopAtError bool) error {
	for {
		line, err := s.next()
		tooLong := errors.Is(err, bufio.ErrTooLong)
		if tooLong || err == nil { // empty lines too: they are read
			size := len(line)
			if tooLong {
				size = int(s.handler.config.MaxBodyBytes)
			}
			if err := s.pay(size); err != nil {
				return s.broken(err)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			s.ended = true
			return s.flush()
		case tooLong:
			s.answer(nil, fmt.Errorf("%w: the line has more than %d bytes", hub.ErrLimitExceeded, s.handler.config.MaxBodyBytes))
		case err != nil:
			return s.broken(err)
		case len(bytes.TrimSpace(line)) == 0:
			continue
		default:
			s.answer(s.do(line))
		}
		if stopAtError && s.failed > 0 {
			return s.flush()
		}
		if len(s.out) >= bulkWriteBytes {
			if err := s.write(); err != nil {
				return err
			}
		}
	}
}

// next returns the next line, which is valid until the next call. A last line needs no end; ErrTooLong is of that line
// alone.
func (s *stream) next() (line []byte, err error) {
	s.number++
	s.long = s.long[:0]
	tooLong := false
	for {
		if err := s.rest(); err != nil {
			return nil, err
		}
		part, err := s.in.ReadSlice('\n')
		switch {
		case err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF):
			return nil, err
		case int64(len(s.long)+len(part)) > s.handler.config.MaxBodyBytes:
			tooLong, s.long = true, s.long[:0]
		case errors.Is(err, bufio.ErrBufferFull) && !tooLong:
			s.long = append(s.long, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case tooLong:
			return nil, bufio.ErrTooLong
		case len(s.long) > 0:
			line = append(s.long, part...)
			if s.long = line; cap(line) > maxPooledBody {
				s.long = nil
			}
			return line, nil
		case err != nil && len(part) == 0:
			s.number--
			return nil, err
		}
		return part, nil
	}
}

// rest lets the answers go before the stream waits for more.
func (s *stream) rest() error {
	if n := s.in.Buffered(); n > 0 {
		if part, _ := s.in.Peek(n); bytes.IndexByte(part, '\n') >= 0 {
			return nil
		}
	}
	if err := s.flush(); err != nil {
		return err
	}
	_ = s.control.SetReadDeadline(time.Now().Add(s.handler.config.StreamTimeout))
	return s.handler.stopped.Err() // after the deadline, which Stop sets too
}

// pay waits until the key's rates have room for a line.
func (s *stream) pay(n int) error {
	for _, rated := range []struct {
		l *rate.Limiter
		n int
	}{{s.call.key.requests, 1}, {s.call.key.bytes, n}} {
		if rated.l.Limit() == rate.Inf {
			continue
		}
		if r := rated.l.ReserveN(time.Now(), min(rated.n, rated.l.Burst())); r.Delay() > 0 {
			if err := s.flush(); err != nil {
				return err
			}
			select {
			case <-time.After(r.Delay()):
			case <-s.ctx.Done():
				return s.ctx.Err()
			}
		}
	}
	return nil
}

// do carries out one line.
func (s *stream) do(line []byte) (result any, err error) {
	var request bulkLine
	if err := decode(line, &request); err != nil {
		s.count("publish", &request, err)
		return nil, err
	}
	if request.Channels == nil && request.Users == nil {
		result, err = s.handler.doPublish(s.ctx, &publishRequest{request.Channel, request.message})
		s.count("publish", &request, err)
		return result, err
	}
	if request.Channel != "" {
		err = wrong("channel", `is there beside "channels" or "users"`)
	} else {
		result, err = s.handler.doBroadcast(s.ctx, &broadcastRequest{request.Channels, request.Users, request.message})
	}
	s.count("broadcast", &request, err)
	return result, err
}

func (s *stream) count(method string, line *bulkLine, err error) {
	s.call.key.count(s.handler.numbers[method], codeOf(err))
	if s.handler.audited(method) {
		target := commandTarget{Channel: line.Channel, Channels: line.Channels, Users: line.Users}
		s.handler.audit(s.call, method, target.attrs(), err)
	}
}

// answer queues the answer to the line: {"line":7,"result":{…}}.
func (s *stream) answer(result any, err error) {
	s.handler.bulkLines.Add(1)
	s.out = append(s.out, `{"line":`...)
	s.out = strconv.AppendInt(s.out, int64(s.number), 10)
	field, v := `,"result":`, result
	if err != nil {
		s.failed++
		field, v = `,"error":`, s.handler.describe(s.call, err)
	}
	s.out = append(s.out, field...)
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("api: result %+v: %v", v, err)) // all its types can be marshalled
	}
	s.out = append(s.out, b...)
	s.out = append(s.out, '}', '\n')
}

// write gives the answers to net/http. A caller that does not read them is given up after the timeout.
func (s *stream) write() error {
	if len(s.out) == 0 {
		return nil
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(s.handler.config.Timeout))
	_, err := s.w.Write(s.out)
	s.out = s.out[:0]
	if err != nil {
		return fmt.Errorf("%w: the answers are not read: %w", hub.ErrTooManyRequests, err)
	}
	return nil
}

// flush sends them.
func (s *stream) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	if err := s.write(); err != nil {
		return err
	}
	if err := s.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("%w: the answers are not read: %w", hub.ErrTooManyRequests, err)
	}
	return nil
}

// broken ends a stream before its end, and tells the caller why where that is possible.
func (s *stream) broken(err error) error {
	var timeout net.Error
	switch {
	case s.handler.stopped.Err() != nil:
		err = fmt.Errorf("%w: the server shuts down; go on with this line elsewhere", hub.ErrTooManyRequests)
	case errors.As(err, &timeout) && timeout.Timeout():
		err = fmt.Errorf("%w: nothing came for %v", hub.ErrTooManyRequests, s.handler.config.StreamTimeout)
	case !errors.Is(err, hub.ErrTooManyRequests):
		err = fmt.Errorf("%w: the body ends too early: %w", hub.ErrBadRequest, err)
	}
	s.answer(nil, err)
	_ = s.flush()
	return err
}
