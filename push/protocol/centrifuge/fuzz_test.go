package centrifuge

import (
	"testing"
	"time"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// FuzzClient gives a connected client arbitrary frames, and has something published between them. Whatever they are, each command
// with an id gets exactly one reply or the connection ends, nothing of a channel comes without a subscription, and nothing is left.
func FuzzClient(f *testing.F) {
	for _, text := range []string{
		`{"id":2,"subscribe":{"channel":"a","recover":true,"join_leave":true,"delta":"fossil","tf":{"key":"k","cmp":"nex"}}}
{"id":3,"publish":{"channel":"a","data":{"x":1}}}
{"id":4,"presence":{"channel":"a"}}
{"id":5,"history":{"channel":"a","limit":-1,"reverse":true}}`,
		`{"id":2,"subscribe":{"channel":"plain:a","token":"short"}}
{"id":3,"sub_refresh":{"channel":"plain:a","token":"over"}}
{"id":4,"unsubscribe":{"channel":"plain:a"}}`,
		`{"id":2,"refresh":{"token":"ann"}}
{"id":3,"presence_stats":{"channel":"a"}}
{"id":4,"rpc":{"method":"m"}}
{}
{"send":{}}`,
		`{"id":2,"connect":{}}`,
		`{"id":2,"subscribe":{"channel":"a"}}
{"id":3,"subscribe":{"channel":"a"}}
{"id":4,"sub_refresh":{"channel":"a","token":"expired"}}
{"id":5,"ping":{}}`,
		`{"id":7,"unsubscribe":{"channel":"s"}}
{"id":7,"subscribe":{"channel":"s","recover":true,"epoch":"_","flag":2}}`,
	} {
		f.Add(false, []byte(text), []byte(text))
		var frame []byte
		for m, err := range wire.JSON.Commands([]byte(text)) {
			if err == nil {
				frame, err = wire.Protobuf.AppendCommand(frame, m)
			}
			if err != nil {
				f.Fatal(err)
			}
		}
		f.Add(true, frame, frame)
	}
	f.Add(false, []byte(""), []byte("\xff"))
	f.Fuzz(func(t *testing.T, protobuf bool, first, second []byte) {
		a := expiringGrants()
		a.refusals = map[string]error{"expired": hub.ErrTokenExpired}
		a.identities = map[string]Identity{"ann": {User: "ann", Subs: []ServerSubscription{{Channel: "s"}}, Expires: soon(time.Hour)}}
		h := newHandler(t, Config{Authenticator: a, MaxChannels: 4})
		p := newPeer(t, h, Params{Protobuf: protobuf})
		p.say(`{"id":1,"connect":{"token":"ann"}}`)
		replies, may := map[uint32]int{1: 1}, map[string]bool{"s": true}
		names := map[uint32][]string{}
		for _, frame := range [][]byte{first, second} {
			p.pinged = true
			for m, err := range p.pipe.codec.Commands(frame) {
				if err != nil {
					break
				}
				if m.Id != 0 {
					replies[m.Id]++
				}
				if m.Subscribe != nil {
					names[m.Id] = append(names[m.Id], m.Subscribe.Channel)
				}
			}
			p.OnMessage(false, frame)
			for _, channel := range []string{"a", "plain:a", "s"} {
				publish(t, h, channel, `{"n":1}`)
			}
			advance(h, time.Second, p)
		}
		for _, r := range p.pipe.sent {
			if r.Id == 0 && r.Error == nil && r.Push != nil {
				if r.Push.Unsubscribe == nil && !may[r.Push.Channel] {
					t.Errorf("%v without a subscription", r)
				}
				continue
			}
			if replies[r.Id]--; r.Id == 0 || replies[r.Id] < 0 {
				t.Errorf("%v answers nothing", r)
			}
			if r.Subscribe != nil {
				for _, name := range names[r.Id] {
					may[name] = true
				}
			}
		}
		if p.ended() == "" {
			for id, n := range replies {
				if n != 0 {
					t.Errorf("%d replies to %d are missing", n, id)
				}
			}
		}
		if p.late > 0 {
			t.Errorf("%d frames behind the close", p.late)
		}
		p.OnClose()
		checkEmpty(t, h)
	})
}
