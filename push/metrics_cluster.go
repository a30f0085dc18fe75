package push

var (
	descNodes           = desc("cluster_nodes", "Nodes of the cluster that are known, this one among them.")
	descNodesForeign    = desc("cluster_nodes_foreign", "Nodes among them whose messages are of another version, so that they cannot be asked.")
	descNodesSameName   = desc("cluster_nodes_same_name", "Nodes too many that this one knows: others have their names.")
	descNodesLost       = desc("cluster_nodes_lost_total", "Nodes that were not heard of for --cluster-timeout.")
	descClusterMessages = desc("cluster_messages_total", "Messages between nodes, without publications.", "direction", "kind")
	descClusterIgnored  = desc("cluster_messages_ignored_total", "Messages of others that were ignored.", "reason")
	descClusterUnsent   = desc("cluster_messages_unsent_total", "Messages that could not be sent.")
	descClusterQueries  = desc("cluster_queries_total", "Questions to all other nodes.", "outcome")
	descClusterTimeouts = desc("cluster_query_timeouts_total", "Questions that some node did not answer within --cluster-ask-timeout.")
	descClusterRunning  = desc("cluster_queries_running", "Questions under way, asked and answered.", "side")
	descClusterServed   = desc("cluster_queries_served_total", "Questions of other nodes.", "outcome")
	descRecords         = desc("cluster_records_total", "Revocations that went to the cluster's log and came from it.", "outcome")
	descRecordsPending  = desc("cluster_records_pending", "Revocations that the cluster's log has not taken yet.")
	descRecordsSynced   = desc("cluster_records_synced", "1 once this node knows all that the cluster's log had.")
	descRecordsRestarts = desc("cluster_records_restarts_total", "Times that the cluster's log could not be followed any more.")
)

// collectCluster has no figures of a server that is alone.
func (c *collector) collectCluster(gauge emitInt, counter emitCount) {
	n := c.server.nodes
	if n == nil {
		return
	}
	st := n.cluster.Stats()
	gauge(descNodes, st.Nodes)
	gauge(descNodesForeign, st.Foreign)
	namesakes := st.Namesakes
	if side := c.server.nats; side != nil && side.server != nil && side.server.Namesake() != nil {
		namesakes++ // which is not connected
	}
	gauge(descNodesSameName, namesakes)
	counter(descNodesLost, int64(st.Lost))
	for kind, n := range st.Sent {
		counter(descClusterMessages, int64(n), "out", kind)
	}
	for kind, n := range st.Received {
		counter(descClusterMessages, int64(n), "in", kind)
	}
	for reason, n := range st.Ignored {
		counter(descClusterIgnored, int64(n), reason)
	}
	counter(descClusterUnsent, int64(st.Unsent))
	counter(descClusterQueries, int64(st.Answered), "answered")
	counter(descClusterQueries, int64(st.TimedOut), "timeout")
	counter(descClusterQueries, int64(st.Incomplete), "incomplete")
	counter(descClusterQueries, int64(st.TooLarge), "too_large")
	counter(descClusterQueries, int64(st.Busy), "busy")
	counter(descClusterTimeouts, int64(st.TimedOut))
	gauge(descClusterRunning, st.Asking, "asked")
	gauge(descClusterRunning, st.Serving, "served")
	counter(descClusterServed, int64(st.Served), "answered")
	counter(descClusterServed, int64(st.TurnedAway), "busy")
	counter(descClusterServed, int64(st.Panics), "panic")
	if n.records == nil {
		return
	}
	r := n.records.Stats()
	counter(descRecords, int64(r.Put), "put")
	counter(descRecords, int64(r.Failed), "failed")
	counter(descRecords, int64(r.Applied), "applied")
	counter(descRecords, int64(r.Refused), "refused")
	gauge(descRecordsPending, r.Pending)
	counter(descRecordsRestarts, int64(r.Restarts))
	synced := 0
	if r.Synced {
		synced = 1
	}
	gauge(descRecordsSynced, synced)
}
