package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/millpond/millpond/bench/verify"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// brokenServer is a server of channels by another library, all of which recover, with the API that backends publish
// by. What it does wrong it does to every client, every so many publications.
type brokenServer struct {
	fault string
	every int
	step  uint64        // from one offset of a channel to the next
	delay time.Duration // of what is late

	mu       sync.Mutex
	channels map[string][]published
	clients  map[*brokenClient]struct{}
	answered int // requests of the API
	quit     chan struct{}
}

// The faults.
const (
	faultNone      = ""
	faultDrops     = "drops"
	faultDoubles   = "doubles"
	faultReorders  = "reorders"
	faultCorrupts  = "corrupts a bit"
	faultMisplaces = "delivers another channel's"
	faultForeign   = "delivers to who is not subscribed"
	faultGap       = "claims to recover with a gap"
	faultOffsets   = "numbers wrongly"
	faultSilent    = "stops delivering"
	faultMute      = "does not answer subscriptions"
	faultAPI       = "does not answer the API"
	faultRefuses   = "refuses publications"
	faultLate      = "is late"
	faultGarbage   = "sends what is no message"
	faultCuts      = "closes connections"
	faultUnheard   = "drops what goes to all"
	faultLoud      = "sends to others what goes to all"
	faultPast      = "has a history with a gap"
	faultStale     = "has a history that is behind"
	faultGhosts    = "counts who has left"
	faultAbsent    = "does not list who asks"
	faultNobody    = "has no presence" // which is none
)

// gapped is added to a fault, also to none, of a server whose offsets rise by more than one, as those of a stream that
// several channels share.
const gapped = ", offsets with gaps"

// startBroken starts one, and returns it as the tool is told of it.
func startBroken(t *testing.T, fault string, every int, p Protocol) Target {
	t.Helper()
	fault, gaps := strings.CutSuffix(fault, gapped)
	s := &brokenServer{
		fault: fault, every: every, step: map[bool]uint64{false: 1, true: 3}[gaps], delay: 3 * time.Second, channels: map[string][]published{}, clients: map[*brokenClient]struct{}{},
		quit: make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc(centrifugePath, s.serve)
	mux.HandleFunc(plainPath, s.serve)
	mux.HandleFunc("/api/publish", s.publish)
	mux.HandleFunc("/api/broadcast", s.broadcast)
	mux.HandleFunc("/api/history", s.history)
	mux.HandleFunc("/api/presence", s.presence)
	mux.HandleFunc("/api/presence_stats", s.presence)
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		close(s.quit)
		server.CloseClientConnections()
		server.Close()
	})
	return Target{URL: "ws" + strings.TrimPrefix(server.URL, "http") + p.path(), API: server.URL + "/api/", PID: os.Getpid()}
}

type brokenClient struct {
	server *brokenServer
	conn   *websocket.Conn
	kind   websocket.MessageType
	codec  wire.Codec
	plain  bool
	out    chan func() []byte

	// Guarded by server.mu.
	subscribed map[string]bool
	count      int
	held       func() []byte
}

func (s *brokenServer) serve(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"centrifuge-protobuf"}})
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }()
	c := &brokenClient{server: s, conn: conn, kind: websocket.MessageText, subscribed: map[string]bool{}, out: make(chan func() []byte, 1<<12)}
	if c.plain = r.URL.Path == plainPath; conn.Subprotocol() != "" {
		c.codec, c.kind = wire.Protobuf, websocket.MessageBinary
	}
	s.mu.Lock()
	s.clients[c] = struct{}{}
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	writing.Go(func() { c.write(ctx) })
	defer writing.Wait()
	defer cancel()
	for {
		_, b, err := conn.Read(ctx)
		if err != nil {
			break
		}
		c.read(b)
	}
	s.mu.Lock()
	delete(s.clients, c)
	s.mu.Unlock()
}

func (c *brokenClient) write(ctx context.Context) {
	for {
		select {
		case message := <-c.out:
			b := message()
			if b == nil {
				_ = c.conn.CloseNow()
				return
			}
			if c.conn.Write(ctx, c.kind, b) != nil {
				return
			}
		case <-ctx.Done():
			return
		case <-c.server.quit:
			return
		}
	}
}

// read carries out what a client says.
func (c *brokenClient) read(b []byte) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.plain {
		var m struct {
			Type    string
			ID      uint32
			Payload struct {
				Channel string
				Since   *struct {
					Offset uint64
					Epoch  string
				}
			}
		}
		if json.Unmarshal(b, &m) != nil {
			return
		}
		name := m.Payload.Channel
		switch m.Type {
		case "subscribe":
			reply := map[string]any{"type": "reply", "id": m.ID, "ok": true, "channel": name, "epoch": "e", "offset": c.server.top(name)}
			var missed []published
			if since := m.Payload.Since; since != nil {
				if missed, reply["recovered"] = c.missed(name, since.Offset); reply["recovered"] == true {
					reply["offset"] = since.Offset
				}
			}
			if c.server.fault == faultMute {
				return
			}
			encoded, _ := json.Marshal(reply)
			c.out <- func() []byte { return encoded }
			for _, p := range missed {
				c.out <- c.push(name, p)
			}
			c.subscribed[name] = true
		case "presence":
			encoded, _ := json.Marshal(map[string]any{"type": "reply", "id": m.ID, "ok": true, "channel": name, "clients": c.server.present(name)})
			c.out <- func() []byte { return encoded }
		case "unsubscribe":
			delete(c.subscribed, name)
			encoded, _ := json.Marshal(map[string]any{"type": "reply", "id": m.ID, "ok": true})
			c.out <- func() []byte { return encoded }
		}
		return
	}
	for m, err := range c.codec.Commands(b) {
		if err != nil {
			return
		}
		switch {
		case m.Connect != nil:
			c.reply(&wire.Reply{Id: m.Id, Connect: &wire.ConnectResult{Client: "c", Version: "broken"}})
		case m.Subscribe != nil && c.server.fault != faultMute:
			name := m.Subscribe.Channel
			r := &wire.SubscribeResult{Recoverable: true, Positioned: true, Epoch: "e", Offset: c.server.top(name)}
			if m.Subscribe.Recover {
				missed, ok := c.missed(name, m.Subscribe.Offset)
				if r.WasRecovering, r.Recovered = true, ok; ok {
					r.Offset = m.Subscribe.Offset
				}
				for _, p := range missed {
					r.Publications = append(r.Publications, &wire.Publication{Data: p.data, Offset: p.offset})
				}
			}
			c.reply(&wire.Reply{Id: m.Id, Subscribe: r})
			c.subscribed[name] = true
		case m.Presence != nil && c.server.fault == faultNobody:
			c.reply(&wire.Reply{Id: m.Id, Error: &wire.Error{Code: 108, Message: "not available"}})
		case m.Presence != nil:
			present := map[string]*wire.ClientInfo{}
			for _, id := range c.server.present(m.Presence.Channel) {
				present[id] = &wire.ClientInfo{Client: id}
			}
			c.reply(&wire.Reply{Id: m.Id, Presence: &wire.PresenceResult{Presence: present}})
		case m.Unsubscribe != nil:
			delete(c.subscribed, m.Unsubscribe.Channel)
			c.reply(&wire.Reply{Id: m.Id, Unsubscribe: &wire.UnsubscribeResult{}})
		}
	}
}

// top is where a channel has come to. The lock is held.
func (s *brokenServer) top(channel string) uint64 { return uint64(len(s.channels[channel])) * s.step }

// present lists who is in a channel. The lock is held.
func (s *brokenServer) present(channel string) (ids []string) {
	for c := range s.clients {
		if c.subscribed[channel] && s.fault != faultAbsent {
			ids = append(ids, fmt.Sprintf("%p", c))
		}
	}
	if s.fault == faultGhosts {
		ids = append(ids, "a ghost")
	}
	return ids
}

func (c *brokenClient) reply(r *wire.Reply) {
	c.out <- func() []byte {
		b, _ := c.codec.AppendReply(nil, r)
		return b
	}
}

// missed is what a client did not get, if that is known.
func (c *brokenClient) missed(channel string, since uint64) ([]published, bool) {
	all := c.server.channels[channel]
	if since > c.server.top(channel) {
		return nil, false
	}
	if all = all[since/c.server.step:]; c.server.fault == faultGap && len(all) > 0 {
		all = all[1:]
	}
	return all, true
}

func (c *brokenClient) push(channel string, p published) func() []byte {
	return func() []byte {
		b, _ := (&dialect{protocol: map[bool]Protocol{true: ProtocolPlain}[c.plain], codec: c.codec}).pushed(nil, channel, p.offset, p.data)
		return b
	}
}

// accept takes a publication, and delivers it as the server does. It returns its offset.
func (s *brokenServer) accept(channel string, data []byte) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := published{s.top(channel) + s.step, bytes.Clone(data)}
	s.channels[channel] = append(s.channels[channel], p)
	for c := range s.clients {
		c.deliver(channel, p)
	}
	return p.offset
}

// deliver has a publication sent to who is subscribed, or not.
func (c *brokenClient) deliver(channel string, p published) {
	s := c.server
	stamp, err := verify.Parse(p.data)
	toAll := err == nil && stamp.Channel == verify.Everywhere
	if s.fault == faultLoud && toAll && c.subscribed[channel] {
		for name := range c.subscribed {
			if name != channel { // once, and without an offset: by its numbers it could be the channel's
				c.out <- c.push(name, published{0, p.data})
			}
		}
	}
	if !c.subscribed[channel] {
		if c.count++; s.fault == faultForeign && c.count%s.every == 0 && len(c.subscribed) > 0 { // before that it is no message of the protocol
			c.out <- c.push(channel, p)
		}
		return
	}
	if s.fault == faultUnheard && toAll {
		return
	}
	c.count++
	message := c.push(channel, p)
	if c.held != nil {
		c.out <- message
		c.out <- c.held
		c.held = nil
		return
	}
	if s.fault == faultSilent && c.count >= s.every {
		return
	}
	if c.count%s.every != 0 {
		c.out <- message
		return
	}
	switch s.fault {
	case faultDrops:
		return
	case faultDoubles:
		c.out <- message
	case faultReorders:
		c.held = message
		return
	case faultCorrupts:
		data := bytes.Clone(p.data)
		data[len(data)/2] ^= 1
		message = c.push(channel, published{p.offset, data})
	case faultMisplaces:
		for name, all := range s.channels {
			if name != channel && len(all) > 0 {
				message = c.push(channel, published{p.offset, all[len(all)-1].data})
			}
		}
	case faultOffsets:
		message = c.push(channel, published{p.offset + 5, p.data})
	case faultGarbage:
		message = func() []byte { return []byte("}{") }
	case faultCuts:
		message = func() []byte { return nil }
	case faultLate:
		whole := message
		message = func() []byte {
			select {
			case <-time.After(s.delay):
			case <-s.quit:
			}
			return whole()
		}
	}
	c.out <- message
}

// request reads one of the API's, and reports whether it is to be answered.
func (s *brokenServer) request(w http.ResponseWriter, r *http.Request, v any) bool {
	if json.NewDecoder(r.Body).Decode(v) != nil {
		http.Error(w, "no JSON", http.StatusBadRequest)
		return false
	}
	s.mu.Lock()
	s.answered++
	silent := s.fault == faultAPI && s.answered >= s.every
	refuses := s.fault == faultRefuses && s.answered >= s.every
	s.mu.Unlock()
	if silent {
		select {
		case <-s.quit:
		case <-r.Context().Done():
		}
		return false
	}
	if refuses {
		_, _ = w.Write([]byte(`{"error":{"code":103,"message":"permission denied"}}`))
	}
	return !refuses
}

func (s *brokenServer) publish(w http.ResponseWriter, r *http.Request) {
	var m struct {
		Channel string
		Data    json.RawMessage
	}
	if s.request(w, r, &m) {
		_ = json.NewEncoder(w).Encode(map[string]any{"result": map[string]any{"offset": s.accept(m.Channel, m.Data), "epoch": "e"}})
	}
}

func (s *brokenServer) broadcast(w http.ResponseWriter, r *http.Request) {
	var m struct {
		Channels []string
		Data     json.RawMessage
	}
	if !s.request(w, r, &m) {
		return
	}
	var responses []any
	for _, channel := range m.Channels {
		responses = append(responses, map[string]any{"result": map[string]any{"offset": s.accept(channel, m.Data), "epoch": "e"}})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"result": map[string]any{"responses": responses}})
}

func (s *brokenServer) presence(w http.ResponseWriter, r *http.Request) {
	var m struct{ Channel string }
	if !s.request(w, r, &m) {
		return
	}
	if s.fault == faultNobody {
		_, _ = w.Write([]byte(`{"error":{"code":108,"message":"not available"}}`))
		return
	}
	s.mu.Lock()
	present := map[string]any{}
	for _, id := range s.present(m.Channel) {
		present[id] = map[string]any{"client": id}
	}
	s.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{"result": map[string]any{"presence": present, "num_clients": len(present)}})
}

func (s *brokenServer) history(w http.ResponseWriter, r *http.Request) {
	var m struct {
		Channel string
		Limit   int
	}
	if !s.request(w, r, &m) {
		return
	}
	s.mu.Lock()
	all := s.channels[m.Channel]
	s.mu.Unlock()
	top := uint64(len(all)) * s.step
	switch n := len(all); {
	case s.fault == faultPast && n > 2:
		all = append(slices.Clone(all[:n-2]), all[n-1])
	case s.fault == faultStale && n > 0:
		all = all[:n-1]
		top -= s.step
	}
	publications := []any{}
	for _, p := range slices.Backward(all[max(len(all)-m.Limit, 0):]) {
		publications = append(publications, map[string]any{"offset": p.offset, "data": json.RawMessage(p.data)})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"result": map[string]any{"publications": publications, "offset": top, "epoch": "e"}})
}
