package wire

import (
	"maps"
	"slices"
	"strconv"
)

// The messages of a server, with their members in the order of the numbers. What
// is written without a look at its value is written even if that is zero: clients
// use these without asking whether they are there.

func (w *jsonWriter) reply(m *Reply) {
	w.b = append(w.b, '{')
	w.uint("id", uint64(m.Id))
	w.error("error", m.Error)
	w.push("push", m.Push)
	w.connectResult("connect", m.Connect)
	w.subscribeResult("subscribe", m.Subscribe)
	w.empty("unsubscribe", m.Unsubscribe != nil)
	w.empty("publish", m.Publish != nil)
	w.presenceResult("presence", m.Presence)
	w.presenceStatsResult("presence_stats", m.PresenceStats)
	w.historyResult("history", m.History)
	w.empty("ping", m.Ping != nil)
	w.rpcResult("rpc", m.Rpc)
	w.refreshResult("refresh", m.Refresh)
	w.subRefreshResult("sub_refresh", m.SubRefresh)
	w.close()
}

func (w *jsonWriter) error(name string, m *Error) {
	if m == nil {
		return
	}
	w.open(name)
	w.uint("code", uint64(m.Code))
	w.string("message", m.Message)
	w.bool("temporary", m.Temporary)
	w.close()
}

func (w *jsonWriter) push(name string, m *Push) {
	if m == nil {
		return
	}
	w.open(name)
	w.int("id", m.Id)
	w.string("channel", m.Channel)
	w.publication("pub", m.Pub)
	w.join("join", m.Join)
	w.leave("leave", m.Leave)
	w.unsubscribe("unsubscribe", m.Unsubscribe)
	w.message("message", m.Message)
	w.subscribe("subscribe", m.Subscribe)
	w.connect("connect", m.Connect)
	w.disconnect("disconnect", m.Disconnect)
	w.refresh("refresh", m.Refresh)
	w.close()
}

func (w *jsonWriter) dictionary(name string, m *Dictionary) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("id", m.Id)
	w.raw("data", m.Data)
	w.string("data_b64", m.DataB64)
	w.close()
}

func (w *jsonWriter) clientInfo(name string, m *ClientInfo) {
	if m == nil {
		return
	}
	w.open(name)
	w.name("user")
	w.b = AppendString(w.b, m.User)
	w.name("client")
	w.b = AppendString(w.b, m.Client)
	w.raw("conn_info", m.ConnInfo)
	w.raw("chan_info", m.ChanInfo)
	w.close()
}

func (w *jsonWriter) clientInfos(name string, values map[string]*ClientInfo) {
	w.open(name)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		w.key(key)
		w.clientInfo("", values[key])
	}
	w.close()
}

func (w *jsonWriter) publication(name string, m *Publication) {
	if m == nil {
		return
	}
	w.open(name)
	w.raw("data", m.Data)
	w.clientInfo("info", m.Info)
	w.uint("offset", m.Offset)
	w.stringMap("tags", m.Tags)
	w.bool("delta", m.Delta)
	w.int("time", m.Time)
	w.string("channel", m.Channel)
	w.string("key", m.Key)
	w.bool("removed", m.Removed)
	w.int("score", m.Score)
	w.string("epoch", m.Epoch)
	w.raw("prev_data", m.PrevData)
	w.uint("version", m.Version)
	w.close()
}

func (w *jsonWriter) publications(name string, list []*Publication) {
	w.name(name)
	w.b = append(w.b, '[')
	for _, m := range list {
		w.publication("", m)
	}
	w.b = append(w.b, ']')
}

func (w *jsonWriter) join(name string, m *Join) {
	if m == nil {
		return
	}
	w.open(name)
	w.clientInfo("info", m.Info)
	w.close()
}

func (w *jsonWriter) leave(name string, m *Leave) {
	if m == nil {
		return
	}
	w.open(name)
	w.clientInfo("info", m.Info)
	w.close()
}

func (w *jsonWriter) unsubscribe(name string, m *Unsubscribe) {
	if m == nil {
		return
	}
	w.open(name)
	w.uint("code", uint64(m.Code))
	w.string("reason", m.Reason)
	w.close()
}

func (w *jsonWriter) subscribe(name string, m *Subscribe) {
	if m == nil {
		return
	}
	w.open(name)
	w.bool("recoverable", m.Recoverable)
	w.string("epoch", m.Epoch)
	w.uint("offset", m.Offset)
	w.bool("positioned", m.Positioned)
	w.raw("data", m.Data)
	w.close()
}

func (w *jsonWriter) message(name string, m *Message) {
	if m == nil {
		return
	}
	w.open(name)
	w.raw("data", m.Data)
	w.close()
}

func (w *jsonWriter) connect(name string, m *Connect) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("client", m.Client)
	w.string("version", m.Version)
	w.raw("data", m.Data)
	if len(m.Subs) > 0 {
		w.subscribeResults("subs", m.Subs)
	}
	w.bool("expires", m.Expires)
	w.uint("ttl", uint64(m.Ttl))
	w.uint("ping", uint64(m.Ping))
	w.bool("pong", m.Pong)
	w.string("session", m.Session)
	w.string("node", m.Node)
	w.int("time", m.Time)
	w.close()
}

func (w *jsonWriter) disconnect(name string, m *Disconnect) {
	if m == nil {
		return
	}
	w.open(name)
	w.uint("code", uint64(m.Code))
	w.string("reason", m.Reason)
	w.bool("reconnect", m.Reconnect)
	w.close()
}

func (w *jsonWriter) refresh(name string, m *Refresh) {
	if m == nil {
		return
	}
	w.open(name)
	w.bool("expires", m.Expires)
	w.uint("ttl", uint64(m.Ttl))
	w.close()
}

func (w *jsonWriter) connectResult(name string, m *ConnectResult) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("client", m.Client)
	w.string("version", m.Version)
	w.bool("expires", m.Expires)
	w.uint("ttl", uint64(m.Ttl))
	w.raw("data", m.Data)
	if len(m.Subs) > 0 {
		w.subscribeResults("subs", m.Subs)
	}
	w.uint("ping", uint64(m.Ping))
	w.bool("pong", m.Pong)
	w.string("session", m.Session)
	w.string("node", m.Node)
	w.int("time", m.Time)
	w.int("flag", m.Flag)
	w.dictionary("dict", m.Dict)
	w.close()
}

func (w *jsonWriter) refreshResult(name string, m *RefreshResult) {
	if m == nil {
		return
	}
	w.open(name)
	w.string("client", m.Client)
	w.string("version", m.Version)
	w.bool("expires", m.Expires)
	w.uint("ttl", uint64(m.Ttl))
	w.close()
}

func (w *jsonWriter) subscribeResult(name string, m *SubscribeResult) {
	if m == nil {
		return
	}
	w.open(name)
	w.bool("expires", m.Expires)
	w.uint("ttl", uint64(m.Ttl))
	w.bool("recoverable", m.Recoverable)
	w.string("epoch", m.Epoch)
	if len(m.Publications) > 0 {
		w.publications("publications", m.Publications)
	}
	w.bool("recovered", m.Recovered)
	w.uint("offset", m.Offset)
	w.bool("positioned", m.Positioned)
	w.raw("data", m.Data)
	w.bool("was_recovering", m.WasRecovering)
	w.bool("delta", m.Delta)
	w.int("id", m.Id)
	w.int("type", int64(m.Type))
	w.int("phase", int64(m.Phase))
	w.string("cursor", m.Cursor)
	if len(m.State) > 0 {
		w.publications("state", m.State)
	}
	w.uint("publish_debounce", uint64(m.PublishDebounce))
	w.close()
}

func (w *jsonWriter) subscribeResults(name string, values map[string]*SubscribeResult) {
	w.open(name)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		w.key(key)
		w.subscribeResult("", values[key])
	}
	w.close()
}

func (w *jsonWriter) subRefreshResult(name string, m *SubRefreshResult) {
	if m == nil {
		return
	}
	w.open(name)
	w.bool("expires", m.Expires)
	w.uint("ttl", uint64(m.Ttl))
	if len(m.Items) > 0 {
		w.publications("items", m.Items)
	}
	w.close()
}

func (w *jsonWriter) presenceResult(name string, m *PresenceResult) {
	if m == nil {
		return
	}
	w.open(name)
	w.clientInfos("presence", m.Presence)
	w.close()
}

func (w *jsonWriter) presenceStatsResult(name string, m *PresenceStatsResult) {
	if m == nil {
		return
	}
	w.open(name)
	w.name("num_clients")
	w.b = strconv.AppendUint(w.b, uint64(m.NumClients), 10)
	w.name("num_users")
	w.b = strconv.AppendUint(w.b, uint64(m.NumUsers), 10)
	w.close()
}

func (w *jsonWriter) historyResult(name string, m *HistoryResult) {
	if m == nil {
		return
	}
	w.open(name)
	w.publications("publications", m.Publications)
	w.name("epoch")
	w.b = AppendString(w.b, m.Epoch)
	w.name("offset")
	w.b = strconv.AppendUint(w.b, m.Offset, 10)
	w.close()
}

func (w *jsonWriter) rpcResult(name string, m *RPCResult) {
	if m == nil {
		return
	}
	w.open(name)
	w.raw("data", m.Data)
	w.close()
}
