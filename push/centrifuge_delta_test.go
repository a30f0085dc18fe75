package push

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge/fossil"
	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// deltaSDK keeps what a client of deltas does: the data of its latest publication.
type deltaSDK struct {
	*sdk
	last []byte
}

// take returns the data of a publication and whether it came as a delta.
func (d *deltaSDK) take(p *wire.Publication) (data string, delta bool) {
	d.t.Helper()
	b := p.Data
	if d.codec == wire.JSON {
		var text string
		if err := json.Unmarshal(b, &text); err != nil {
			d.t.Fatalf("data is no string: %s", b)
		}
		b = []byte(text)
	}
	if p.Delta {
		var err error
		if b, err = fossil.Apply(d.last, b, 1<<20); err != nil {
			d.t.Fatalf("%v: %q on %q", err, p.Data, d.last)
		}
	}
	d.last = b
	return string(b), p.Delta
}

// expectPub waits for a publication.
func (d *deltaSDK) expectPub(data string, delta bool) {
	d.t.Helper()
	r := d.mustReply()
	if r.Push.GetPub() == nil {
		d.t.Fatalf("got %s", d.text(r))
	}
	if got, isDelta := d.take(r.Push.Pub); got != data || isDelta != delta {
		d.t.Fatalf("got %q, as a delta %t; want %q, %t", got, isDelta, data, delta)
	}
}

// subscribe returns the result.
func (d *deltaSDK) subscribe(request string) *wire.SubscribeResult {
	d.t.Helper()
	d.send(`{"id":5,"subscribe":` + request + `}`)
	r := d.mustReply()
	if r.Subscribe == nil {
		d.t.Fatal(d.text(r))
	}
	d.text(r) // for the epoch
	// With the answer to another command the subscription has begun. What comes before that may come whole.
	d.send(`{"id":6,"unsubscribe":{"channel":"another"}}`)
	if r := d.mustReply(); r.Unsubscribe == nil {
		d.t.Fatal(d.text(r))
	}
	return r.Subscribe
}

// long returns data of which a part differs by n.
func long(n int) string { return fmt.Sprintf(`{"common":"%s","n":%d}`, strings.Repeat("abc", 40), n) }

// Each publication reaches a subscriber with deltas whole or as the difference to the one that it had before.
func TestCentrifugeDelta(t *testing.T) {
	for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
		t.Run(codecName(codec), func(t *testing.T) {
			s := newStage(t, quiet(), codec, users)
			d := &deltaSDK{sdk: s.client("a")}
			plain := s.client("b")
			d.connect("<ann>")
			plain.connect("<bob>")
			if r := d.subscribe(`{"channel":"delta:a","delta":"fossil"}`); !r.Delta {
				t.Fatal("no deltas")
			}
			plain.send(`{"id":2,"subscribe":{"channel":"delta:a"}}`)
			plain.expect(`{"id":2,"subscribe":{"recoverable":true,"epoch":"<epoch>","positioned":true}}`)
			for i, step := range []struct {
				data      string
				published bool // for deltas
				delta     bool
			}{
				{long(1), true, false}, // the first
				{long(2), true, true},
				{long(3), false, false},
				{long(4), true, true}, // from the whole one before
				{long(4), true, true}, // the same
				{`1`, true, false},    // a delta would be longer
				{long(5), true, false},
				{long(6), true, true},
				{`"` + strings.Repeat("ü", 40) + `"`, true, false},
				{`"` + strings.Repeat("ü", 40) + `ö"`, true, true},
			} {
				kind := "!"
				if step.published {
					kind = "&"
				}
				s.play(kind + " delta:a " + step.data)
				d.expectPub(step.data, step.delta)
				plain.expect(fmt.Sprintf(`{"push":{"channel":"delta:a","pub":{"data":%s,"offset":%d}}}`, step.data, i+1))
			}
			// A newcomer has nothing to apply a delta to.
			late := &deltaSDK{sdk: s.client("c")}
			late.connect("<ann>")
			late.subscribe(`{"channel":"delta:a","delta":"fossil"}`)
			s.publish("delta:a "+long(7), true)
			s.publish("delta:a "+long(8), true)
			d.expectPub(long(7), false) // shorter than one from the text before
			d.expectPub(long(8), true)
			late.expectPub(long(7), false)
			late.expectPub(long(8), true)
			// Nor has one that comes back without recovery.
			late.send(`{"id":6,"unsubscribe":{"channel":"delta:a"}}`)
			late.expect(`{"id":6,"unsubscribe":{}}`)
			late.subscribe(`{"channel":"delta:a","delta":"fossil"}`)
			s.publish("delta:a "+long(9), true)
			late.expectPub(long(9), false)
		})
	}
}

// What is recovered are whole publications, and strings as the live ones; the first live one is a delta to the last of them.
func TestCentrifugeDeltaAfterRecovery(t *testing.T) {
	for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
		for _, missed := range []int{0, 1, 3} {
			t.Run(fmt.Sprintf("%s/%d", codecName(codec), missed), func(t *testing.T) {
				t.Parallel()
				s := newStage(t, quiet(), codec, users)
				other := s.client("b") // without a subscriber the channel has no bases
				other.connect("<bob>")
				other.send(`{"id":2,"subscribe":{"channel":"delta:a"}}`)
				other.mustReply()
				s.publish("delta:a "+long(0), true)
				for i := range missed {
					s.publish("delta:a "+long(i+1), true)
				}
				d := &deltaSDK{sdk: s.client("a")}
				d.connect("<ann>")
				r := d.subscribe(`{"channel":"delta:a","delta":"fossil","recover":true,"offset":1}`)
				if !r.Recovered || len(r.Publications) != missed || r.Offset != 1 {
					t.Fatalf("%+v", r)
				}
				for i, p := range r.Publications {
					if data, delta := d.take(p); data != long(i+1) || delta && i == 0 {
						t.Errorf("recovered %s, a delta: %t", data, delta)
					}
				}
				s.publish("delta:a "+long(100), true)
				s.publish("delta:a "+long(101), true)
				d.expectPub(long(100), missed > 0)
				d.expectPub(long(101), true)
			})
		}
	}
}

// A publication that the filter held back is not what the next one is a difference to.
func TestCentrifugeDeltaWithFilter(t *testing.T) {
	for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
		t.Run(codecName(codec), func(t *testing.T) {
			s := newStage(t, quiet(), codec, users)
			d := &deltaSDK{sdk: s.client("a")}
			d.connect("<ann>")
			d.subscribe(`{"channel":"delta:a","delta":"fossil","tf":{"key":"k","cmp":"eq","val":"1"}}`)
			s.play("& delta:a " + long(1) + " k=1")
			d.expectPub(long(1), false)
			s.play("& delta:a " + long(2) + " k=1")
			d.expectPub(long(2), true)
			s.play("& delta:a " + long(3) + " k=2\n& delta:a " + long(4) + " k=1")
			d.expectPub(long(4), false) // the difference to number 3 is of no use
			s.play("& delta:a " + long(5) + " k=1")
			d.expectPub(long(5), true)

			// Of what is recovered, the last that it got counts.
			back := &deltaSDK{sdk: s.client("b")}
			back.connect("<ann>")
			s.play("& delta:a " + long(6) + " k=1\n& delta:a " + long(7) + " k=2")
			r := back.subscribe(`{"channel":"delta:a","delta":"fossil","tf":{"key":"k","cmp":"eq","val":"1"},"recover":true,"offset":5}`)
			if !r.Recovered || len(r.Publications) != 1 || r.Offset != 7 {
				t.Fatalf("%+v", r)
			}
			if data, delta := back.take(r.Publications[0]); data != long(6) || delta {
				t.Errorf("recovered %s, a delta: %t", data, delta)
			}
			s.play("& delta:a " + long(8) + " k=1")
			back.expectPub(long(8), false)
			s.play("& delta:a " + long(9) + " k=1")
			back.expectPub(long(9), true)
		})
	}
}

// All publications of a namespace may be made so, whoever publishes them.
func TestCentrifugeDeltaOfAllPublications(t *testing.T) {
	c := with(quiet(), func(c *Config) {
		c.Namespaces = []Namespace{{Name: "delta", Options: hub.Options{AllowFossilDelta: true, DeltaPublish: true, AllowSubscribeForClient: true}}}
	})
	s := newStage(t, c, wire.JSON, users)
	d := &deltaSDK{sdk: s.client("a")}
	d.connect("<ann>")
	d.subscribe(`{"channel":"delta:a","delta":"fossil"}`)
	s.publish("delta:a "+long(1), false)
	s.publish("delta:a "+long(2), false)
	d.expectPub(long(1), false)
	d.expectPub(long(2), true)
}

func TestCentrifugeTagsFilter(t *testing.T) {
	// The tags of six publications, the data of which is their number.
	published := []string{"n=1 s=apple", "n=2 s=pear", "n=10 s=grape", "n=x s=", "s=apple", ""}
	tests := []struct {
		name, filter string
		want         string
	}{
		{"eq", `{"key":"s","cmp":"eq","val":"apple"}`, "1 5"},
		{"eq nothing", `{"key":"s","cmp":"eq"}`, "4"},
		{"neq", `{"key":"s","cmp":"neq","val":"apple"}`, "2 3 4 6"},
		{"in", `{"key":"s","cmp":"in","vals":["apple","grape"]}`, "1 3 5"},
		{"nin", `{"key":"s","cmp":"nin","vals":["apple","grape"]}`, "2 4 6"},
		{"ex", `{"key":"n","cmp":"ex"}`, "1 2 3 4"},
		{"nex", `{"key":"n","cmp":"nex"}`, "5 6"},
		{"sw", `{"key":"s","cmp":"sw","val":"p"}`, "2"},
		{"ew", `{"key":"s","cmp":"ew","val":"ape"}`, "3"},
		{"ct", `{"key":"s","cmp":"ct","val":"pe"}`, "2 3"},
		{"ct: another", `{"key":"s","cmp":"ct","val":"a"}`, "1 2 3 5"},
		{"lt", `{"key":"n","cmp":"lt","val":"2"}`, "1"},
		{"lte", `{"key":"n","cmp":"lte","val":"2"}`, "1 2"},
		{"gt", `{"key":"n","cmp":"gt","val":"2"}`, "3"},
		{"gte", `{"key":"n","cmp":"gte","val":"2"}`, "2 3"},
		{"gte a fraction", `{"key":"n","cmp":"gte","val":"1.5"}`, "2 3"},
		{"and", `{"op":"and","nodes":[{"key":"s","cmp":"eq","val":"apple"},{"key":"n","cmp":"ex"}]}`, "1"},
		{"or", `{"op":"or","nodes":[{"key":"s","cmp":"eq","val":"apple"},{"key":"n","cmp":"gt","val":"2"}]}`, "1 3 5"},
		{"not", `{"op":"not","nodes":[{"key":"s","cmp":"eq","val":"apple"}]}`, "2 3 4 6"},
		{"nested", `{"op":"and","nodes":[{"op":"not","nodes":[{"key":"n","cmp":"nex"}]},{"op":"or","nodes":[{"key":"s","cmp":"eq","val":"pear"},{"key":"n","cmp":"lt","val":"2"}]}]}`, "1 2"},
		{"nothing", `{"op":"and","nodes":[{"key":"s","cmp":"eq","val":"a"},{"key":"s","cmp":"eq","val":"b"}]}`, ""},
	}
	config := with(quiet(), func(c *Config) {
		for i := range c.Namespaces {
			if c.Namespaces[i].HistorySize > 0 {
				c.Namespaces[i].HistorySize = 100
			}
		}
	})
	for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
		s := newStage(t, config, codec, users)
		for i, tt := range tests {
			t.Run(tt.name+"/"+codecName(codec), func(t *testing.T) {
				channel := fmt.Sprintf("tags:%d", i)
				c := dialSDK(t, s.server, codec, "")
				c.tokens = users
				c.connect("<ann>")
				c.send(`{"id":2,"subscribe":{"channel":"` + channel + `","tf":` + tt.filter + `}}`)
				if r := c.mustReply(); r.Subscribe == nil {
					t.Fatal(c.text(r))
				}
				all := dialSDK(t, s.server, codec, "")
				all.tokens = users
				all.connect("<bob>")
				all.send(`{"id":2,"subscribe":{"channel":"` + channel + `"}}`)
				all.mustReply()
				for n, tags := range published {
					s.publish(fmt.Sprintf("%s %d %s", channel, n+1, tags), false)
				}
				var want []string
				for n := range strings.FieldsSeq(tt.want) {
					want = append(want, n)
				}
				var got []string
				for range want {
					p := c.mustReply().Push.GetPub()
					if string(p.GetData()) != fmt.Sprint(p.GetOffset()) {
						t.Fatalf("%v", p)
					}
					got = append(got, string(p.GetData()))
				}
				if strings.Join(got, " ") != tt.want {
					t.Errorf("got %v, want %s", got, tt.want)
				}
				for range published { // whoever subscribed later is served later
					all.mustReply()
				}
				c.expectNothing()

				// The same when recovered; the offset is then that of the last, whether it got that or not.
				back := dialSDK(t, s.server, codec, "")
				back.tokens = users
				back.connect("<ann>")
				back.send(`{"id":2,"subscribe":{"channel":"` + channel + `","recover":true,"tf":` + tt.filter + `}}`)
				r := back.mustReply().Subscribe
				got = nil
				for _, p := range r.GetPublications() {
					got = append(got, string(p.Data))
				}
				if strings.Join(got, " ") != tt.want || !r.Recovered || r.Offset != uint64(len(published)) {
					t.Errorf("recovered %v at %d, want %s", got, r.Offset, tt.want)
				}
			})
		}
	}
}

// Data of other clients that is no JSON throws no client of JSON out: it goes without, and hears of it where it may miss nothing. The others get
// it. That of a backend does.
func TestCentrifugeBinaryData(t *testing.T) {
	tokens := map[string]jwt.MapClaims{"ann": {"sub": "ann"}, "bob": {"sub": "bob", "channels": []string{"rec:a"}}}
	const lost = `{"push":{"channel":"rec:a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}`
	for _, tt := range []struct{ request, told string }{
		{`{"channel":"a"}`, `{"push":{"channel":"a","pub":{"data":1,"info":{"user":"","client":""},"offset":2}}}`},
		{`{"channel":"rec:a"}`, lost},
		{`{"channel":"delta:a","delta":"fossil"}`, strings.ReplaceAll(lost, "rec:a", "delta:a")},
	} {
		for _, data := range []string{"\xff\xfe", "{", "{} {}"} {
			if strings.Contains(tt.request, "fossil") && data != "\xff\xfe" {
				continue // any text can be a string
			}
			s := newStage(t, quiet(), wire.JSON, tokens)
			binary := dialSDK(t, s.server, wire.Protobuf, "")
			binary.tokens = tokens
			text := s.client("a")
			for _, c := range []*sdk{text, binary} {
				c.connect("<ann>")
				c.send(`{"id":2,"subscribe":` + tt.request + `}`)
				c.mustReply()
			}
			channel := strings.SplitN(tt.request, `"`, 5)[3]
			for _, d := range []string{data, "1"} {
				if _, err := s.server.hub.Publish(t.Context(), channel, []byte(d), hub.PublishOptions{Delta: true, Info: &hub.ClientInfo{}}); err != nil {
					t.Fatal(err)
				}
			}
			text.expect(tt.told)
			if p := binary.mustReply().Push.GetPub(); string(p.GetData()) != data {
				t.Errorf("data %q", p.GetData())
			}
			if tt.told == lost { // it subscribes again, and hears that it has missed something
				text.send(`{"id":3,"subscribe":{"channel":"rec:a","recover":true}}`)
				text.expect(`{"id":3,"subscribe":{"recoverable":true,"epoch":"<epoch>","offset":2,"positioned":true,"was_recovering":true}}`)
				text.expectNothing()
			}
			if n := s.server.centrifuge.Stats().Untold; n < 1 {
				t.Error("it was not counted")
			}
			text = s.client("b")
			text.connect("<ann>")
			text.send(`{"id":2,"subscribe":` + tt.request + `}`)
			text.mustReply()
			if _, err := s.server.hub.Publish(t.Context(), channel, []byte(data), hub.PublishOptions{}); err != nil {
				t.Fatal(err)
			}
			text.expectClose("3506 inappropriate protocol")
		}
	}
	s := newStage(t, quiet(), wire.JSON, tokens)
	if _, err := s.server.hub.Publish(t.Context(), "rec:a", []byte{0xff}, hub.PublishOptions{}); err != nil {
		t.Fatal(err)
	}
	s.play(`
		> ` + hello + `
		+ {"id":3,"subscribe":{"channel":"rec:a","recover":true,"flag":2}}
		+ {"id":4,"subscribe":{"channel":"rec:a","recover":true}}
		< ` + world + `
		< {"id":3,"error":{"code":112,"message":"unrecoverable position"}}
		< {"id":4,"subscribe":{"recoverable":true,"epoch":"<epoch>","offset":1,"positioned":true,"was_recovering":true}}
		b:> {"id":1,"connect":{"token":"<bob>","subs":{"rec:a":{"recover":true}}}}
		b:< {"id":1,"connect":{"client":"<client>","subs":{"rec:a":{"recoverable":true,"epoch":"<epoch>","offset":1,"positioned":true,"was_recovering":true}}}}
		! rec:a 2
		< {"push":{"channel":"rec:a","pub":{"data":2,"offset":2}}}
		b:< {"push":{"channel":"rec:a","pub":{"data":2,"offset":2}}}`)
}

// A publication over several lines comes in one.
func TestCentrifugeLineFeedsInData(t *testing.T) {
	s := newStage(t, quiet(), wire.JSON, map[string]jwt.MapClaims{"ann": {"sub": "ann"}})
	s.play(`
		> ` + hello + `
		+ {"id":2,"subscribe":{"channel":"a"}}
		< ` + world + `
		< {"id":2,"subscribe":{}}`)
	if _, err := s.server.hub.Publish(t.Context(), "a", []byte("{\n\"a\": \"b\\n c\",\r\n \"d\": 1 }\n"), hub.PublishOptions{}); err != nil {
		t.Fatal(err)
	}
	s.play(`< {"push":{"channel":"a","pub":{"data":{"a":"b\n c","d":1},"offset":1}}}`)
}

// On NATS there are gaps between the offsets of a channel. They are none between what a client of deltas has and what it gets, live or recovered.
func TestCentrifugeDeltaWithGaps(t *testing.T) {
	for _, codec := range []wire.Codec{wire.JSON, wire.Protobuf} {
		t.Run(codecName(codec), func(t *testing.T) {
			t.Parallel()
			c := quiet()
			c.DataDir, c.NATS = t.TempDir(), NATS{Embedded: true, Server: NATSServer{StoreBytes: 128 << 20}, Broker: NATSBroker{Groups: 1}}
			s := newStage(t, c, codec, users)
			publish := func(n int) {
				s.publish("delta:another "+long(100+n), true) // in the same log
				s.publish("delta:a "+long(n), true)
			}
			d := &deltaSDK{sdk: s.client("a")}
			d.connect("<ann>")
			r := d.subscribe(`{"channel":"delta:a","delta":"fossil"}`)
			other := &deltaSDK{sdk: s.client("b")} // which goes on while the first is away
			other.connect("<bob>")
			other.subscribe(`{"channel":"delta:a","delta":"fossil"}`)
			for i := range 3 {
				publish(i)
				d.expectPub(long(i), i > 0)
				other.expectPub(long(i), i > 0)
			}
			publish(3)
			other.expectPub(long(3), true)
			latest := d.mustReply().Push.Pub
			if data, delta := d.take(latest); data != long(3) || !delta {
				t.Fatalf("%s, a delta: %t", data, delta)
			}
			last := latest.Offset
			d.send(`{"id":7,"unsubscribe":{"channel":"delta:a"}}`)
			d.mustReply()
			for i := 4; i < 6; i++ {
				publish(i)
				other.expectPub(long(i), true)
			}
			r = d.subscribe(fmt.Sprintf(`{"channel":"delta:a","delta":"fossil","recover":true,"offset":%d,"epoch":%q}`, last, r.Epoch))
			if !r.Recovered || len(r.Publications) != 2 {
				t.Fatalf("%+v", r)
			}
			for i, p := range r.Publications {
				if data, _ := d.take(p); data != long(4+i) || p.Offset != last+2*uint64(i+1) {
					t.Errorf("recovered %s at %d", data, p.Offset)
				}
			}
			publish(6)
			d.expectPub(long(6), true)
			other.expectPub(long(6), true)
		})
	}
}
