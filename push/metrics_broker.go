package push

var (
	descBrokerConnected     = desc("broker_connected", "1 while the connection to the broker is there.")
	descBrokerDisconnects   = desc("broker_disconnects_total", "Times that the connection to the broker broke.")
	descBrokerReconnects    = desc("broker_reconnects_total", "Times that it was made again.")
	descBrokerAttempts      = desc("broker_reconnect_attempts_total", "Attempts to make it again that were in vain, at all servers each.")
	descBrokerSlow          = desc("broker_slow_total", "Times that a subscription of the broker's began to drop messages because they came too fast.")
	descBrokerBytes         = desc("broker_bytes_total", "Bytes of messages on the connection to the broker.", "direction")
	descBrokerSubscriptions = desc("broker_subscriptions", "Subscriptions of this node at the broker. They grow with groups and partitions, not with connections or channels.")
	descBrokerPublished     = desc("broker_publishes_total", "Publications by result: acknowledged, refused, or unknown when no answer came in time.", "result")
	descBrokerPending       = desc("broker_publishes_pending", "Publications that wait for the log's answer.")
	descBrokerGroups        = desc("broker_groups_consumed", "Groups of channels with history that this node reads.")
	descBrokerBehind        = desc("broker_groups_behind", "Groups among them that are not read up to their end, or cannot be read now.")
	descBrokerLag           = desc("broker_lag_messages", "Messages in the logs that this node has yet to read, as of the last ones read.")
	descBrokerPartitions    = desc("broker_partitions_consumed", "Partitions of channels without history that this node reads.")
	descBrokerDropped       = desc("broker_dropped_total", "Messages of channels without history that came faster than this node could hand them over.")
	descBrokerInterruptions = desc("broker_interruptions_total", "Times that reading a group was interrupted.")
	descBrokerResets        = desc("broker_resets_total", "Channels of which the subscribers were told to begin anew, because something may be missing.")
	descBrokerRenewals      = desc("broker_epochs_renewed_total", "Logs that this node found to have lost their end, or to be others than before.")
	descBrokerForeign       = desc("broker_foreign_messages_total", "Messages that are no publications of millpond's, which were passed by.")
	descBrokerRingBytes     = desc("broker_ring_bytes", "Bytes of publications that this node keeps in memory for recovery.")
	descBrokerRings         = desc("broker_ring_channels", "Channels of which it keeps any, or knows that something is gone.")
	descBrokerKept          = desc("broker_ring_publications", "Publications among them.")
	descBrokerEvicted       = desc("broker_ring_evicted_total", "Publications that left memory before their time, for --history-bytes.")
	descBrokerRecalls       = desc("broker_recalls_total", "Requests for a past that memory has let go or does not know, by result: found in the log, gone from it, refused when too many waited, or failed.", "result")
	descBrokerUnsent        = desc("broker_claims_unsent", "Publications with a key or version in channels without history that are, or may be, noted in the log and were not sent.")
	descBrokerResent        = desc("broker_claims_resent_total", "Such ones that were sent when they were published again.")
	descBrokerPeers         = desc("broker_cluster_peers", "Other servers of the cluster that the embedded server is connected to.")
	descBrokerInterest      = desc("broker_interest_subscriptions", "Subscriptions that the embedded server knows, its own and what the cluster's others have told it of theirs.")
	descBrokerStore         = desc("broker_store_bytes", "Bytes of the embedded server's data on disk.")
	descBrokerFailed        = desc("broker_store_failed", "1 while the embedded server can store nothing: the disk is full, or has failed.")
	descBrokerFree          = desc("broker_disk_free_bytes", "Bytes that are free on the disk of the embedded server's data.")
	descBrokerRestarts      = desc("broker_store_restarts_total", "Times that the embedded server was restarted in the process because its storage had failed.")
)

// collectBroker is about either broker.
func (c *collector) collectBroker(gauge emitInt, counter emitCount) {
	n := c.server.nats
	if n == nil {
		b := c.server.memory.Stats()
		gauge(descKeys, b.Keys)
		gauge(descHistoryChans, b.Streams)
		gauge(descHistoryPubs, b.Publications)
		gauge(descHistoryBytes, b.Bytes)
		gauge(descHistoryMost, b.MaxBytes)
		counter(descHistoryGone, b.Evicted)
		return
	}
	l := n.link.Stats()
	gauge(descBrokerConnected, number(l.Connected))
	counter(descBrokerDisconnects, l.Disconnects)
	counter(descBrokerReconnects, l.Reconnects)
	counter(descBrokerAttempts, l.Attempts)
	counter(descBrokerSlow, l.Slow)
	counter(descBrokerBytes, int64(l.Bytes[0]), "in")
	counter(descBrokerBytes, int64(l.Bytes[1]), "out")
	gauge(descBrokerSubscriptions, l.Subscriptions)
	st := n.broker.Stats()
	counter(descBrokerPublished, st.Published, "acknowledged")
	counter(descBrokerPublished, st.Refused, "refused")
	counter(descBrokerPublished, st.Unknown, "unknown")
	gauge(descBrokerPending, st.Pending)
	gauge(descBrokerGroups, st.Groups)
	gauge(descBrokerBehind, st.Behind)
	gauge(descBrokerLag, int(st.Lag))
	gauge(descBrokerPartitions, st.Partitions)
	counter(descBrokerDropped, st.Dropped)
	counter(descBrokerInterruptions, st.Interruptions)
	counter(descBrokerResets, st.Resets)
	counter(descBrokerRenewals, st.Renewals)
	counter(descBrokerForeign, st.Foreign)
	gauge(descBrokerRingBytes, int(st.RingBytes))
	gauge(descBrokerRings, st.RingChannels)
	gauge(descBrokerKept, st.RingPublications)
	counter(descBrokerEvicted, st.Evicted)
	gauge(descBrokerUnsent, st.Unsent)
	counter(descBrokerResent, st.Resent)
	counter(descBrokerRecalls, st.Recalls.Found, "found")
	counter(descBrokerRecalls, st.Recalls.Gone, "gone")
	counter(descBrokerRecalls, st.Recalls.Refused, "refused")
	counter(descBrokerRecalls, st.Recalls.Failed, "failed")
	if n.server == nil {
		return
	}
	e := n.server.Stats()
	gauge(descBrokerPeers, e.Peers)
	gauge(descBrokerInterest, e.Interest)
	gauge(descBrokerStore, int(e.StoreBytes))
	gauge(descBrokerFailed, number(e.Failed))
	gauge(descBrokerFree, int(e.FreeBytes))
	counter(descBrokerRestarts, e.Restarts)
}

// number is 1 for true.
func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
