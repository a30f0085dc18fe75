package api

import "context"

// Node is what a server tells of itself.
type Node struct {
	UID         string  `json:"uid"`  // of the process
	Name        string  `json:"name"` // of the host
	Version     string  `json:"version"`
	NumClients  int     `json:"num_clients"`
	NumUsers    int     `json:"num_users"`
	NumSubs     int     `json:"num_subs"`
	NumChannels int     `json:"num_channels"`
	Uptime      int64   `json:"uptime"` // seconds
	Process     Process `json:"process"`
}

// Process is what the operating system says of a server.
type Process struct {
	CPU float64 `json:"cpu"` // percent of a core, on average since the start
	RSS int64   `json:"rss"` // bytes
}

func (h *Handler) info(_ context.Context, body []byte) (any, error) {
	var request struct{}
	if err := decodeOptional(body, &request); err != nil {
		return nil, err
	}
	return map[string]any{"nodes": h.config.Info()}, nil
}
