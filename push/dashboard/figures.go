package dashboard

// Figures are what the page shows, once a second. Counters have grown since the start of the server: the page takes differences, so that a
// message that is left out loses nothing.
type Figures struct {
	Time     int64   `json:"time"` // Unix milliseconds
	Node     string  `json:"node"` // its name
	UID      string  `json:"uid"`
	Version  string  `json:"version"`
	Uptime   float64 `json:"uptime"` // seconds
	Draining bool    `json:"draining"`
	Watchers int     `json:"watchers"`
	Cost     float64 `json:"cost"` // seconds that collecting the figures before took

	Connections     int   `json:"connections"`
	MostConnections int   `json:"most_connections"` // 0 is as many as there are file descriptors
	Handshaking     int   `json:"handshaking"`
	Users           int   `json:"users"`
	Channels        int   `json:"channels"`
	Subscriptions   int   `json:"subscriptions"`
	Accepted        int64 `json:"accepted"`
	Opened          int64 `json:"opened"`
	Refused         int64 `json:"refused"`

	MessagesIn   int64  `json:"messages_in"`
	MessagesOut  int64  `json:"messages_out"`
	BytesIn      int64  `json:"bytes_in"`
	BytesOut     int64  `json:"bytes_out"`
	Publications uint64 `json:"publications"`
	Deliveries   uint64 `json:"deliveries"`

	LoopLag  float64   `json:"loop_lag"` // seconds
	Fanout   Durations `json:"fanout"`
	Handlers Durations `json:"handlers"`
	Waiting  int       `json:"waiting"` // publications for fan-out

	CPU           float64 `json:"cpu"`            // seconds that the process has used
	Resident      int     `json:"resident"`       // bytes
	PerConnection int     `json:"per_connection"` // bytes; 0 without connections
	Goroutines    int     `json:"goroutines"`

	OutboxSessions int     `json:"outbox_sessions"` // with something that waits
	OutboxBytes    int     `json:"outbox_bytes"`
	OutboxAge      float64 `json:"outbox_age"` // seconds

	Closed  map[string]int64 `json:"closed"`  // by reason
	Dropped map[string]int64 `json:"dropped"` // by policy

	Busiest []Channel `json:"busiest"`
	Nodes   []Node    `json:"nodes"` // this one first
}

// Durations counts them by the bounds that are told when a session of the page begins; Counts has those up to each bound.
type Durations struct {
	Counts []uint64 `json:"counts"`
	Count  uint64   `json:"count"`
	Sum    float64  `json:"sum"` // seconds
}

// Node is one of the cluster.
type Node struct {
	UID           string  `json:"uid"`
	Name          string  `json:"name"`
	Version       string  `json:"version"`
	Connections   int     `json:"connections"`
	Users         int     `json:"users"`
	Channels      int     `json:"channels"`
	Subscriptions int     `json:"subscriptions"`
	Uptime        int64   `json:"uptime"` // seconds
	CPU           float64 `json:"cpu"`    // percent of a core, on average since its start
	Resident      int64   `json:"resident"`
}

// Query says which connections are wanted.
type Query struct {
	By    string `json:"by"` // one of Ways
	Value string `json:"value"`
	Max   int    `json:"-"` // of one node
}

// Ways are those of finding connections. "slow" are those with the most bytes that wait, "any" some of them: both have no value.
var Ways = []string{"id", "user", "channel", "address", "slow", "any"}

// Found are connections. Errors say what is missing in them: nodes that did not answer, for instance.
type Found struct {
	Connections []Connection `json:"connections"`
	More        bool         `json:"more"` // there are others
	Errors      []string     `json:"errors,omitempty"`
}

// Connection is one as it is now.
type Connection struct {
	ID             string   `json:"id"`   // on its node
	Node           string   `json:"node"` // its UID
	NodeName       string   `json:"node_name"`
	Client         string   `json:"client,omitempty"` // as the protocol calls it
	User           string   `json:"user,omitempty"`
	Path           string   `json:"path"`
	Protocol       string   `json:"protocol"`
	Address        string   `json:"address"`
	TLS            bool     `json:"tls"`
	Age            float64  `json:"age"` // seconds
	OutboxBytes    int      `json:"outbox_bytes"`
	OutboxMessages int      `json:"outbox_messages"`
	OutboxAge      float64  `json:"outbox_age"` // seconds
	Subscriptions  int      `json:"subscriptions"`
	Channels       []string `json:"channels"` // some of them
	UserAgent      string   `json:"user_agent,omitempty"`
}

// Disconnect says which connection is to end, and whether its client may come back at once.
type Disconnect struct {
	Node      string `json:"node"` // its UID; empty is this one
	ID        string `json:"id"`
	Reconnect bool   `json:"reconnect"`
}
