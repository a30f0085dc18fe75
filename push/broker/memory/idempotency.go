package memory

import "github.com/millpond/millpond/push/hub"

// keyTTL is for how long a key is known, in seconds, unless there are too many.
const keyTTL = 300

// idempotency has the positions of the publications that came with a key. Guarded by its stripe's mu.
type idempotency struct {
	most      int // keys, of which beyond it the oldest are forgotten early; immutable
	positions map[keyed]hub.Position
	order     []expiring // oldest first, from head on
	head      int
}

type keyed struct{ channel, key string }

type expiring struct {
	keyed
	end uint32
}

// find returns the position of the publication that was made with the key.
func (k *idempotency) find(channel, key string, now uint32) (hub.Position, bool) {
	k.expire(now)
	position, ok := k.positions[keyed{channel, key}]
	return position, ok
}

// note remembers the position.
func (k *idempotency) note(channel, key string, position hub.Position, now uint32) {
	if k.positions == nil {
		k.positions = map[keyed]hub.Position{}
	}
	if len(k.positions) >= k.most {
		k.pop()
	}
	id := keyed{channel, key}
	k.positions[id] = position
	k.order = append(k.order, expiring{id, now + keyTTL})
}

// expire forgets what is too old.
func (k *idempotency) expire(now uint32) {
	for k.head < len(k.order) && k.order[k.head].end <= now {
		k.pop()
	}
}

// pop forgets the oldest.
func (k *idempotency) pop() {
	delete(k.positions, k.order[k.head].keyed)
	k.order[k.head] = expiring{}
	if k.head++; k.head == len(k.order) || k.head > 1024 && k.head > len(k.order)/2 {
		k.order = append([]expiring(nil), k.order[k.head:]...)
		k.head = 0
	}
}
