package push

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millpond/millpond/push/events"
)

var (
	descEventsQueued   = desc("events_queued", "Events that wait to be sent, of this process and of those that are gone.", "process")
	descEventsBytes    = desc("events_queue_bytes", "Bytes of events that wait to be sent.")
	descEventsDisk     = desc("events_disk_bytes", "Bytes of the events' queue on the disk or in memory, those that were sent and are not removed yet among them.")
	descEventsPending  = desc("events_pending_bytes", "Bytes of events that wait for the disk.")
	descEventsAge      = desc("events_oldest_age_seconds", "Time since the oldest event happened that is being sent; 0 if none is.")
	descEventsAdopted  = desc("events_adopted", "Queues of processes that are gone, which are being sent.")
	descEventsTracked  = desc("events_tracked", "Channels, members and clients of which the backend was told that they are there.")
	descEventsHeld     = desc("events_held", "Departures that are held back.")
	descEventsRecorded = desc("events_recorded_total", "Events that happened.")
	descEventsSent     = desc("events_sent_total", "Events that the backend has acknowledged.")
	descEventsAttempts = desc("events_attempts_total", "Attempts to send a batch of events.", "outcome")
	descEventsFailed   = desc("events_failed_total", "Attempts to send a batch of events that were not acknowledged.")
	descEventsDropped  = desc("events_dropped_total", "Events that are lost.", "reason")
	descEventsInferred = desc("events_inferred_total", "Events that nobody saw: what ended with another process.")
	descEventsDamaged  = desc("events_damaged_total", "Torn or damaged places in the files of the events' queue.")
	descEventsWrites   = desc("events_write_errors_total", "Attempts to write the events' queue to the disk that failed.")
	descEventsSyncs    = desc("events_syncs_total", "Times that the events' queue was synced.")
)

func (c *collector) collectEvents(out chan<- prometheus.Metric, gauge emitInt, counter emitCount) {
	st := c.server.events.Stats()
	gauge(descEventsQueued, int(st.Records), "own")
	gauge(descEventsQueued, int(st.AdoptedEvents), "gone")
	gauge(descEventsBytes, int(st.Bytes))
	gauge(descEventsDisk, int(st.DiskBytes))
	gauge(descEventsPending, st.Pending)
	age := 0.0
	if !st.Oldest.IsZero() {
		age = max(time.Since(st.Oldest).Seconds(), 0)
	}
	out <- prometheus.MustNewConstMetric(descEventsAge, prometheus.GaugeValue, age)
	gauge(descEventsAdopted, st.Adopted)
	gauge(descEventsTracked, st.Tracked)
	gauge(descEventsHeld, st.Held)
	counter(descEventsRecorded, int64(st.Appended))
	counter(descEventsSent, int64(st.Sent))
	failed := int64(0)
	for outcome, n := range st.Attempts {
		counter(descEventsAttempts, int64(n), events.Outcome(outcome).String())
		if events.Outcome(outcome) != events.Acknowledged {
			failed += int64(n)
		}
	}
	counter(descEventsFailed, failed)
	counter(descEventsDropped, int64(st.GivenUp), "queue_full")
	counter(descEventsDropped, int64(st.NotWritten), "not_written")
	counter(descEventsDropped, int64(st.TooLarge), "too_large")
	counter(descEventsDropped, int64(st.Rejected), "rejected")
	counter(descEventsInferred, int64(st.Inferred))
	counter(descEventsDamaged, int64(st.Damaged))
	counter(descEventsWrites, int64(st.WriteErrors))
	counter(descEventsSyncs, int64(st.Syncs))
}
