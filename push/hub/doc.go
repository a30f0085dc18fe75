// Package hub joins the publishers of channels with their local subscribers.
//
// A publication enters through [Hub.Publish]. The hub gives it to its [Broker],
// which puts it in its place within the channel and hands it back through
// [Hub.Deliver]; on a cluster it comes back on every node. From there the hub
// spreads it over the channel's subscribers on this node.
//
// # Fan-out
//
// A channel keeps its subscribers in shards of Config.ShardSubscribers. A
// shard has a queue of waiting publications, and its delivery is one task on
// the [Executor]: never one per subscriber. A task takes everything that waits
// and hands each subscriber the whole [Batch] in one call, so that publications
// that arrive faster than they leave go out together.
//
// # What is promised
//
//   - Order: every subscriber sees a channel's publications in the order in
//     which the broker called Deliver, each once, whoever else comes or goes.
//   - Subscribe: a subscriber sees every publication whose Deliver began after
//     its Subscribe returned, and none whose Deliver ended before Subscribe was
//     called. Of those in between it sees a contiguous tail or nothing.
//   - Hold: nothing reaches the subscriber before [Subscription.Start]; what
//     arrives meanwhile is held and comes first. A protocol sends its reply, or
//     the history it recovered, between Subscribe and Start.
//   - Unsubscribe: once [Subscription.Unsubscribe] has returned, no Deliver of
//     that subscription is running and none will begin.
//
// # Events and resets
//
// Joins, leaves and resets travel with the messages, in the same queues and the
// same order. A [Batch] has publications of one class all the same: messages, or
// joins and leaves, or resets. A task cuts what it took into runs of one class,
// so that subscriptions without [Subscription.ReceiveEvents] are passed over by
// joins and leaves; a shard where nobody has it does not even queue these.
//
// # Back-pressure
//
// The queue of a shard is bounded in publications and bytes. A publisher that
// finds it full runs the delivery itself, or waits for the one that is running;
// so publishers are never faster than fan-out, and nothing depends on a free
// worker: an executor whose every worker is publishing cannot deadlock. A queue
// exceeds its bound by at most one publication for each publisher that was let
// in at the same moment.
//
// Joins and leaves are not held up, for a client that goes cannot wait. They are not counted among the publications of
// a queue; in a long one a leave takes the join out that it undoes. So there are at most two of each client.
//
// # Locks
//
// The order is: the broker's own locks, then bucket.mu, then shard.mu, then
// shard.queueMu, then whatever a Subscriber locks in Deliver. Nobody holds a
// bucket.mu while a broker's Publish, Subscribe or Unsubscribe runs. bucket.mu
// and shard.mu are nested by ConsistencyCheck alone: the other paths let go of
// the one before they take the other, so a fan-out in progress never delays
// other channels. Two callbacks come under shard.mu, and no other but
// Observer's under a lock of this package: Subscriber.Deliver, since the promises on Start and
// Unsubscribe need it, and Presenter.Presence, of one subscriber of the shard
// after another. Neither may block or call the hub or a Subscription. A fan-out
// lets the lock go after every 32 subscribers; Presence keeps it for the shard.
// Observer is called under bucket.mu, for the order, and must not do so either.
// Executor.Submit and Config.OnPanic are called without locks of this package,
// though Submit may run inside the broker's.
package hub
