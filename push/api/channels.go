package api

import (
	"context"
	"path"
)

type channelRequest struct {
	Channel string `json:"channel"`
}

// decodeChannel reads a request that names a channel and nothing else.
func decodeChannel(ctx context.Context, body []byte) (string, error) {
	var request channelRequest
	if err := decode(body, &request); err != nil {
		return "", err
	}
	return request.Channel, permitChannel(ctx, "channel", request.Channel)
}

func (h *Handler) presence(ctx context.Context, body []byte) (any, error) {
	channel, err := decodeChannel(ctx, body)
	if err != nil {
		return nil, err
	}
	list, err := h.config.Audience.Presence(ctx, channel)
	if err != nil {
		return nil, err
	}
	presence := make(map[string]*clientInfo, len(list))
	for _, info := range list {
		presence[info.Client] = newClientInfo(info)
	}
	return map[string]any{"presence": presence}, nil
}

func (h *Handler) presenceStats(ctx context.Context, body []byte) (any, error) {
	channel, err := decodeChannel(ctx, body)
	if err != nil {
		return nil, err
	}
	stats, err := h.config.Audience.PresenceStats(ctx, channel)
	return map[string]int{"num_clients": stats.Clients, "num_users": stats.Users}, err
}

func (h *Handler) historyRemove(ctx context.Context, body []byte) (any, error) {
	channel, err := decodeChannel(ctx, body)
	if err != nil {
		return nil, err
	}
	return struct{}{}, h.config.Hub.RemoveHistory(ctx, channel)
}

type channelInfo struct {
	NumClients int `json:"num_clients"`
}

type channelsRequest struct {
	Pattern string `json:"pattern"`
}

// channels lists the channels that have subscribers, of which the names match a pattern: "*" stands for any characters
// but a slash.
func (h *Handler) channels(ctx context.Context, body []byte) (any, error) {
	var request channelsRequest
	if err := decodeOptional(body, &request); err != nil {
		return nil, err
	}
	if len(request.Pattern) > maxKeyBytes { // matching takes time, and there may be a million channels
		return nil, tooLong("pattern", len(request.Pattern))
	}
	if _, err := path.Match(request.Pattern, ""); err != nil {
		return nil, wrong("pattern", "is %.80q, which is no pattern", request.Pattern)
	}
	key := callOf(ctx).key
	list, err := h.config.Audience.Channels(ctx, ChannelsQuery{Pattern: request.Pattern, Channels: key.Channels, Namespaces: key.Namespaces, Max: h.config.MaxChannels})
	if err != nil {
		return nil, err
	}
	channels := make(map[string]channelInfo, len(list))
	for name, subscribers := range list {
		channels[name] = channelInfo{subscribers}
	}
	return map[string]any{"channels": channels}, nil
}
