// Package events tells a backend what happened: by HTTP POST, in batches, signed, each event at least once and those of a node in their
// order.
//
// The hub and the protocols say what happens. The tracker turns that into events: it holds a departure back for a while, for
// who comes back in time has not been away. An event is a record of a journal, from which the sender takes it, and where it stays
// until the backend has answered with 2xx.
//
// # Restarts
//
// Each process has a directory of its own for its journal, named by its start and its node's uid. One that nobody has locked was left by a
// process that is gone: whoever finds it adopts it. With that process all its connections went, so what was open by its journal,
// channels occupied, members in them, clients connected, is closed by events that are marked as inferred. Then it is sent like
// any other, before the adopter's own events, and removed.
//
// # Order
//
// An event's Seq counts the events of its node, without a gap but for events that are lost. Within a channel, channel_occupied and
// channel_vacated take turns, beginning with the first, as do member_joined and member_left of a user; a member joins after
// channel_occupied and leaves before channel_vacated.
//
// # Locks
//
// The order is: the hub's bucket.mu, then shard.mu, then that of the journal. Nothing blocks under them.
package events
