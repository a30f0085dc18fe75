package nats

import (
	"testing"

	"github.com/millpond/millpond/push/broker/brokertest"
)

// newNode opens a link to a server, and makes a broker on it.
func newNode(t *testing.T, s InProcess, c Config) *brokertest.Node {
	t.Helper()
	return nodeOn(t, openLink(t, LinkConfig{Server: s}), c)
}

func nodeOn(t *testing.T, l *Link, c Config) *brokertest.Node {
	t.Helper()
	c.Link, c.Logger = l, silent
	if c.Groups == 0 {
		c.Groups = 4
	}
	if c.StoreBytes == 0 {
		c.StoreBytes = 128 << 20
	}
	if c.ChannelMessages == 0 {
		c.ChannelMessages = c.MaxHistorySize
	}
	b, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	n := &brokertest.Node{Broker: b, Sink: brokertest.NewSink()}
	b.Attach(n.Sink)
	t.Cleanup(b.Close)
	return n
}

// of returns a node's broker.
func of(n *brokertest.Node) *Broker { return n.Broker.(*Broker) }

func TestContract(t *testing.T) {
	t.Run("one node", func(t *testing.T) {
		brokertest.Run(t, func(t *testing.T) []*brokertest.Node {
			return []*brokertest.Node{newNode(t, startEmbedded(t, t.TempDir()), Config{})}
		})
	})
	t.Run("two nodes", func(t *testing.T) {
		brokertest.Run(t, func(t *testing.T) []*brokertest.Node {
			s := startEmbedded(t, t.TempDir())
			return []*brokertest.Node{newNode(t, s, Config{}), newNode(t, s, Config{})}
		})
	})
}
