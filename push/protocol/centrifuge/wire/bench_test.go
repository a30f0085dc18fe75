package wire

import "testing"

var benchCommands = []struct{ name, frame string }{
	{"pong", `{}`},
	{"connect", `{"id":1,"connect":{"token":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl","name":"js","version":"5.7.1"}}`},
	{"subscribe", `{"id":2,"subscribe":{"channel":"chat:room","recover":true,"epoch":"AbCdEfGh","offset":1234,"flag":1}}`},
	{"publish", `{"id":3,"publish":{"channel":"chat:room","data":{"text":"hello there","at":1763722800,"tags":["a","b"]}}}`},
}

// BenchmarkDecode is the cost of one command, over both codecs.
func BenchmarkDecode(b *testing.B) {
	for _, bench := range benchCommands {
		for _, c := range []Codec{JSON, Protobuf} {
			frame := []byte(bench.frame)
			if c == Protobuf {
				frame = transcode(b, frame)
			}
			b.Run(bench.name+"/"+c.name(), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					for _, err := range c.Commands(frame) {
						if err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}

// BenchmarkEncode is the cost of one publication, into a frame with room for it.
func BenchmarkEncode(b *testing.B) {
	for _, data := range []struct{ name, text string }{
		{"compact", `{"text":"hello there","at":1763722800,"tags":["a","b"]}`},
		{"spaced", `{ "text": "hello there", "at": 1763722800, "tags": [ "a", "b" ] }`},
	} {
		r := &Reply{Push: &Push{Channel: "chat:room", Pub: &Publication{Data: []byte(data.text), Offset: 1234}}}
		for _, c := range []Codec{JSON, Protobuf} {
			b.Run(data.name+"/"+c.name(), func(b *testing.B) {
				b.ReportAllocs()
				frame := make([]byte, 0, 512)
				for b.Loop() {
					if _, err := c.AppendReply(frame, r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func (c Codec) name() string { return [...]string{"JSON", "Protobuf"}[c] }

// transcode returns the Protobuf frame of a JSON frame.
func transcode(t testing.TB, frame []byte) (out []byte) {
	t.Helper()
	for m, err := range JSON.Commands(frame) {
		if err != nil {
			t.Fatal(err)
		}
		if out, err = Protobuf.AppendCommand(out, m); err != nil {
			t.Fatal(err)
		}
	}
	return out
}
