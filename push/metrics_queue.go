package push

var (
	descQueueReading       = desc("queue_reading", "1 while the queue's stream can be read.")
	descQueueReceived      = desc("queue_received_total", "Messages that came from the queue to this node: for the first time, or again.", "delivery")
	descQueueMessages      = desc("queue_messages_total", "Messages by what became of them: published, or refused for good.", "result")
	descQueueDead          = desc("queue_dead_letters_total", "Messages among the refused that are kept, by --queue-dead-letter.")
	descQueueMalformed     = desc("queue_malformed_total", "Messages among the refused that are no command.")
	descQueueRetries       = desc("queue_retries_total", "Attempts that were refused for now, so that the messages were tried again.")
	descQueuePending       = desc("queue_pending", "Messages that this node has and that are not done.")
	descQueuePendingBytes  = desc("queue_pending_bytes", "Bytes of these.")
	descQueueLag           = desc("queue_lag_messages", "Messages in the queue that no node has done.")
	descQueueInterruptions = desc("queue_interruptions_total", "Times that the queue's stream could not be read.")
	descQueueRemade        = desc("queue_consumers_remade_total", "Times that the consumer was removed while this node knew where it stood, and was made again there.")
)

// collectQueue has no figures without a queue.
func (c *collector) collectQueue(gauge emitInt, counter emitCount) {
	q := c.server.queue
	if q == nil {
		return
	}
	st, work := q.source.Stats(), q.work.Stats()
	gauge(descQueueReading, number(st.Reading))
	counter(descQueueReceived, st.Received, "first")
	counter(descQueueReceived, st.Redelivered, "again")
	counter(descQueueMessages, st.Done, "published")
	counter(descQueueMessages, st.Refused, "refused")
	counter(descQueueDead, st.DeadLetters)
	counter(descQueueMalformed, work.Malformed)
	counter(descQueueRetries, work.Retried)
	gauge(descQueuePending, st.Pending)
	gauge(descQueuePendingBytes, st.PendingBytes)
	gauge(descQueueLag, int(st.Lag))
	counter(descQueueInterruptions, st.Interruptions)
	counter(descQueueRemade, st.Remade)
}
