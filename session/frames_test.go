package session

import (
	"fmt"
	"slices"
	"testing"

	"github.com/millpond/millpond/codec"
)

func join(frames ...[]byte) []byte { return slices.Concat(frames...) }

// Many small messages in one segment: all are answered, in order.
func TestPipelined(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		s, _ := echoServer(t, inline)
		c := s.open()
		var all []byte
		const n = 5000
		for i := range n {
			all = append(all, text(fmt.Sprint(i))...)
		}
		c.pour(all)
		for i := range n {
			c.expect(fmt.Sprint("text ", i))
		}
	})
}

// A client that has said everything and shuts down its sending side still gets its answers.
func TestHalfClose(t *testing.T) {
	each(t, func(t *testing.T, inline bool) {
		s, closed := echoServer(t, inline)
		c := s.open()
		c.write(join(text("one"), text("two")))
		if err := closeWrite(c.Conn); err != nil {
			t.Fatal(err)
		}
		c.expect("text one", "text two")
		c.expectEOF()
		if why := receive(t, closed); why.Reason != ReasonPeerGone || why.Code != codec.StatusAbnormal {
			t.Errorf("closed with %+v", why)
		}
	})
}
