package nats

import "sync"

// Bus carries what nodes tell each other beside publications over a Link. It is a cluster.Bus.
type Bus struct {
	link   *Link
	prefix string // of all subjects
}

// NewBus returns the bus of a link.
func NewBus(l *Link) *Bus { return &Bus{l, l.Prefix() + ".cluster."} }

// maxBusPending bounds the messages that wait for one subscriber, which takes them as they come.
const maxBusPending = 64 << 10

// Publish does what cluster.Bus says.
func (b *Bus) Publish(subject string, data []byte) error {
	return b.link.Publish(b.prefix+subject, "", data)
}

// Subscribe does what cluster.Bus says.
func (b *Bus) Subscribe(subject string, f func(data []byte)) (stop func(), err error) {
	var mu sync.Mutex
	stopped := false
	end, err := b.link.Subscribe(b.prefix+subject, maxBusPending, func(m Message) {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			f(m.Data)
		}
	})
	if err != nil {
		return nil, err
	}
	return func() {
		end()
		mu.Lock()
		defer mu.Unlock()
		stopped = true
	}, nil
}
