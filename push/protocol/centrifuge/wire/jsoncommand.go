package wire

import (
	"maps"
	"slices"
)

// The messages of a client, as those of a server are in jsonreply.go.

func (w *jsonWriter) command(m *Command) {
	w.b = append(w.b, '{')
	w.uint("id", uint64(m.Id))
	w.connectRequest("connect", m.Connect)
	w.subscribeRequest("subscribe", m.Subscribe)
	w.unsubscribeRequest("unsubscribe", m.Unsubscribe)
	w.publishRequest("publish", m.Publish)
	w.presenceRequest("presence", m.Presence)
	w.presenceStatsRequest("presence_stats", m.PresenceStats)
	w.historyRequest("history", m.History)
	w.empty("ping", m.Ping != nil)
	w.sendRequest("send", m.Send)
	w.rpcRequest("rpc", m.Rpc)
	w.refreshRequest("refresh", m.Refresh)
	w.subRefreshRequest("sub_refresh", m.SubRefresh)
	w.close()
}

func (w *jsonWriter) connectRequest(name string, m *ConnectRequest) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("token", m.Token)
	w.raw("data", m.Data)
	if len(m.Subs) > 0 {
		w.subscribeRequests("subs", m.Subs)
	}
	w.string("name", m.Name)
	w.string("version", m.Version)
	w.stringMap("headers", m.Headers)
	w.int("flag", m.Flag)
	w.string("dict", m.Dict)
	w.string("profile", m.Profile)
	w.close()
}

func (w *jsonWriter) refreshRequest(name string, m *RefreshRequest) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("token", m.Token)
	w.close()
}

func (w *jsonWriter) subscribeRequest(name string, m *SubscribeRequest) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("channel", m.Channel)
	w.string("token", m.Token)
	w.bool("recover", m.Recover)
	w.string("epoch", m.Epoch)
	w.uint("offset", m.Offset)
	w.raw("data", m.Data)
	w.bool("positioned", m.Positioned)
	w.bool("recoverable", m.Recoverable)
	w.bool("join_leave", m.JoinLeave)
	w.string("delta", m.Delta)
	w.filterNode("tf", m.Tf)
	w.int("flag", m.Flag)
	w.int("type", int64(m.Type))
	w.int("phase", int64(m.Phase))
	w.string("cursor", m.Cursor)
	w.int("limit", int64(m.Limit))
	w.bool("asc", m.Asc)
	w.close()
}

func (w *jsonWriter) subscribeRequests(name string, values map[string]*SubscribeRequest) {
	w.open(name)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		w.key(key)
		w.subscribeRequest("", values[key])
	}
	w.close()
}

func (w *jsonWriter) keyedItem(name string, m *KeyedItem) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("key", m.Key)
	w.uint("version", m.Version)
	w.close()
}

func (w *jsonWriter) keyedItems(name string, list []*KeyedItem) {
	w.name(name)
	w.b = append(w.b, '[')
	for _, m := range list {
		w.keyedItem("", m)
	}
	w.b = append(w.b, ']')
}

func (w *jsonWriter) trackBatch(name string, m *TrackBatch) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("signature", m.Signature)
	if len(m.Items) > 0 {
		w.keyedItems("items", m.Items)
	}
	w.close()
}

func (w *jsonWriter) trackBatches(name string, list []*TrackBatch) {
	w.name(name)
	w.b = append(w.b, '[')
	for _, m := range list {
		w.trackBatch("", m)
	}
	w.b = append(w.b, ']')
}

func (w *jsonWriter) subRefreshRequest(name string, m *SubRefreshRequest) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("channel", m.Channel)
	w.string("token", m.Token)
	w.int("type", int64(m.Type))
	if len(m.Track) > 0 {
		w.trackBatches("track", m.Track)
	}
	w.strings("untrack", m.Untrack)
	w.close()
}

func (w *jsonWriter) unsubscribeRequest(name string, m *UnsubscribeRequest) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("channel", m.Channel)
	w.close()
}

func (w *jsonWriter) publishRequest(name string, m *PublishRequest) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("channel", m.Channel)
	w.raw("data", m.Data)
	w.int("type", int64(m.Type))
	w.string("key", m.Key)
	w.bool("removed", m.Removed)
	w.close()
}

func (w *jsonWriter) presenceRequest(name string, m *PresenceRequest) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("channel", m.Channel)
	w.close()
}

func (w *jsonWriter) presenceStatsRequest(name string, m *PresenceStatsRequest) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("channel", m.Channel)
	w.close()
}

func (w *jsonWriter) streamPosition(name string, m *StreamPosition) {
	if m == nil {
		return
	}
	w.open(name)
	w.uint("offset", m.Offset)
	w.string("epoch", m.Epoch)
	w.close()
}

func (w *jsonWriter) historyRequest(name string, m *HistoryRequest) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("channel", m.Channel)
	w.int("limit", int64(m.Limit))
	w.streamPosition("since", m.Since)
	w.bool("reverse", m.Reverse)
	w.close()
}

func (w *jsonWriter) rpcRequest(name string, m *RPCRequest) {
	if m == nil {
		return
	}
	w.open(name)
	w.raw("data", m.Data)
	w.string("method", m.Method)
	w.close()
}

func (w *jsonWriter) sendRequest(name string, m *SendRequest) {
	if m == nil {
		return
	}
	w.open(name)
	w.raw("data", m.Data)
	w.close()
}

func (w *jsonWriter) filterNode(name string, m *FilterNode) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("op", m.Op)
	w.string("key", m.Key)
	w.string("cmp", m.Cmp)
	w.string("val", m.Val)
	w.strings("vals", m.Vals)
	if len(m.Nodes) > 0 {
		w.filterNodes("nodes", m.Nodes)
	}
	w.close()
}

func (w *jsonWriter) filterNodes(name string, list []*FilterNode) {
	w.name(name)
	w.b = append(w.b, '[')
	for _, m := range list {
		w.filterNode("", m)
	}
	w.b = append(w.b, ']')
}
