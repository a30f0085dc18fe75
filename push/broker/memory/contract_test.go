package memory

import (
	"testing"

	"github.com/millpond/millpond/push/broker/brokertest"
)

func TestContract(t *testing.T) {
	brokertest.Run(t, func(*testing.T) []*brokertest.Node {
		n := &brokertest.Node{Broker: New(Config{}), Sink: brokertest.NewSink()}
		n.Broker.Attach(n.Sink)
		return []*brokertest.Node{n}
	})
}
