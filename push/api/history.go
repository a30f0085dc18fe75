package api

import (
	"context"
	"encoding/json"

	"github.com/millpond/millpond/push/hub"
)

type position struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch"`
}

type historyRequest struct {
	Channel string    `json:"channel"`
	Limit   int       `json:"limit"`
	Since   *position `json:"since"`
	Reverse bool      `json:"reverse"`
}

type historyResult struct {
	Publications []publication `json:"publications"`
	Epoch        string        `json:"epoch"`
	Offset       uint64        `json:"offset"`
}

// publication is one of a channel's past: Data if that is JSON, else B64Data.
type publication struct {
	Data    json.RawMessage   `json:"data,omitempty"`
	B64Data []byte            `json:"b64data,omitempty"`
	Offset  uint64            `json:"offset,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	Info    *clientInfo       `json:"info,omitempty"`
}

type clientInfo struct {
	User     string          `json:"user"`
	Client   string          `json:"client"`
	ConnInfo json.RawMessage `json:"conn_info,omitempty"`
	ChanInfo json.RawMessage `json:"chan_info,omitempty"`
}

func (h *Handler) history(ctx context.Context, body []byte) (any, error) {
	var request historyRequest
	if err := decode(body, &request); err != nil {
		return nil, err
	}
	if err := permitChannel(ctx, "channel", request.Channel); err != nil {
		return nil, err
	}
	q := hub.HistoryQuery{Limit: request.Limit, Reverse: request.Reverse}
	if request.Since != nil {
		q.Since = &hub.Position{Offset: request.Since.Offset, Epoch: request.Since.Epoch}
	}
	past, err := h.config.Hub.History(ctx, request.Channel, q)
	if err != nil {
		return nil, err
	}
	result := historyResult{Publications: make([]publication, 0, len(past.Publications)), Epoch: past.Top.Epoch, Offset: past.Top.Offset}
	for _, p := range past.Publications {
		result.Publications = append(result.Publications, newPublication(p))
	}
	return result, nil
}

func newPublication(p *hub.Publication) publication {
	out := publication{Offset: p.Offset, Tags: p.Tags}
	if json.Valid(p.Data) {
		out.Data = p.Data
	} else {
		out.B64Data = p.Data
	}
	out.Info = newClientInfo(p.Info)
	return out
}

// newClientInfo leaves out infos that are no JSON: clients of Protobuf may have such.
func newClientInfo(info *hub.ClientInfo) *clientInfo {
	if info == nil {
		return nil
	}
	out := &clientInfo{User: info.User, Client: info.Client}
	if json.Valid(info.ConnInfo) {
		out.ConnInfo = info.ConnInfo
	}
	if json.Valid(info.ChanInfo) {
		out.ChanInfo = info.ChanInfo
	}
	return out
}
