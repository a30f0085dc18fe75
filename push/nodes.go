package push

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/millpond/millpond/push/api"
	"github.com/millpond/millpond/push/auth"
	"github.com/millpond/millpond/push/cluster"
	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge"
	"github.com/millpond/millpond/push/protocol/inquiry"
)

// This file joins the other nodes with the hub, the protocols and the API.

// Cluster says how the node is one of several. Its zero value is alone, unless the broker joins nodes.
type Cluster struct {
	// Bus carries what nodes tell each other beside publications. Nil is that of the broker, if it has one.
	Bus cluster.Bus
	// Log has the revocations of tokens, for all nodes. Nil is that of the broker, if it has one; without any, a revocation reaches the nodes that are
	// there.
	Log cluster.Log
	// Name is what the node is called. Empty is the name of the host.
	Name string
	ClusterLimits
}

// ClusterLimits is another package's type under the name by which users of the product know it.
type ClusterLimits = cluster.Limits

// nodes are the others. It is nil for a server that is alone.
type nodes struct {
	// Immutable after join.
	server  *Server
	cluster *cluster.Cluster
	records *cluster.Records // nil without a log

	presences cluster.Shared[[]*hub.ClientInfo]
	stats     cluster.Shared[hub.PresenceStats]
}

// newNodes prepares for other nodes, if there may be any.
func (s *Server) newNodes() {
	if s.config.Cluster.Bus != nil {
		s.nodes = &nodes{server: s}
		s.nodes.presences.Go, s.nodes.stats.Go = s.nodes.run, s.nodes.run
	}
}

func (n *nodes) run(f func()) bool { return n.cluster.Go(f) }

// join joins the others. It waits, not for ever, until this node knows which tokens are revoked.
func (n *nodes) join() (err error) {
	s := n.server
	c := s.config.Cluster
	n.cluster, err = cluster.New(cluster.Config{
		Bus: c.Bus, UID: s.uid, Name: s.nodeName(), Version: s.config.Version, Figures: n.figures, Methods: n.methods(), Limits: c.ClusterLimits, Logger: s.repeats.Logger(),
	})
	if err != nil || c.Log == nil {
		return err
	}
	n.records = cluster.FollowRecords(cluster.RecordsConfig{Log: c.Log, Apply: n.learn, Own: n.known, Logger: s.repeats.Logger()})
	timer := time.NewTimer(c.WithDefaults().Timeout)
	defer timer.Stop()
	select {
	case <-n.records.Synced():
	case <-timer.C:
		s.config.Logger.Warn("the cluster's log of revoked tokens does not answer; until it does, only those in this node's own file are refused")
	}
	return nil
}

// close leaves the others.
func (n *nodes) close() {
	if n == nil || n.cluster == nil {
		return
	}
	if n.records != nil {
		n.records.Close()
	}
	if err := n.cluster.Close(); err != nil {
		n.server.config.Logger.Warn("the node leaves", "error", err)
	}
}

// figures are what this node tells of itself, for the API's info.
func (n *nodes) figures() json.RawMessage {
	b, err := json.Marshal(n.server.node())
	if err != nil {
		panic(fmt.Sprintf("push: %v", err)) // numbers and strings
	}
	return b
}

// all are this node and the others, which say of themselves what their last heartbeats did.
func (n *nodes) all() []api.Node {
	list := []api.Node{n.server.node()}
	for _, other := range n.cluster.Nodes() {
		var node api.Node
		_ = json.Unmarshal(other.Figures, &node) // of another version, perhaps: then it is what it says it is called
		node.UID, node.Name, node.Version = other.UID, other.Name, other.Version
		list = append(list, node)
	}
	return list
}

// The questions that nodes ask each other.
const (
	askSubscribe     = "subscribe"
	askUnsubscribe   = "unsubscribe"
	askDisconnect    = "disconnect"
	askRefresh       = "refresh"
	askRevoke        = "revoke"
	askPresence      = "presence"
	askPresenceStats = "presence_stats"
	askChannels      = "channels"
	askFind          = "find"
	askDisconnectOne = "disconnect_one"
)

// methods are how they are answered.
func (n *nodes) methods() map[string]cluster.Method {
	here := clients{n.server}
	return map[string]cluster.Method{
		askSubscribe: command(here, func(ctx context.Context, q subscribeCommand) error {
			return here.Subscribe(ctx, q.Target, q.Subscription)
		}),
		askUnsubscribe: command(here, func(ctx context.Context, q unsubscribeCommand) error {
			return here.Unsubscribe(ctx, q.Target, q.Channel)
		}),
		askDisconnect: command(here, func(ctx context.Context, q disconnectCommand) error {
			return here.Disconnect(ctx, q.Target, q.Disconnect)
		}),
		askRefresh:  command(here, func(ctx context.Context, q refreshCommand) error { return here.Refresh(ctx, q.Target, q.Refresh) }),
		askRevoke:   method(n.toldRevocation),
		askPresence: method(n.tellPresence), askPresenceStats: method(n.tellPresenceStats), askChannels: method(n.tellChannels),
		askFind: method(n.tellFound), askDisconnectOne: method(n.tellDisconnected),
	}
}

// method is f as the cluster sees it.
func method[Q any](f func(ctx context.Context, q Q, out *cluster.Answer) error) cluster.Method {
	return func(ctx context.Context, body []byte, out *cluster.Answer) error {
		var q Q
		if err := json.Unmarshal(body, &q); err != nil {
			return fmt.Errorf("a question that is none: %w", err)
		}
		return forOthers(f(ctx, q, out))
	}
}

// forOthers is an error of ours as another node may be told it.
func forOthers(err error) error {
	if err == nil {
		return nil
	}
	var already *cluster.Refusal
	if errors.As(err, &already) {
		return err
	}
	if code, text := hub.Describe(err); code != hub.ErrInternal.Code {
		return &cluster.Refusal{Code: code, Message: text}
	}
	return err
}

// clusterError is an error of the cluster as clients and backends are told it.
func clusterError(err error) error {
	var incomplete *cluster.Incomplete
	var told *cluster.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &told):
		return &remoteError{hub.ErrorOf(told.Code), told.Message}
	case errors.Is(err, cluster.ErrTooLarge):
		return fmt.Errorf("%w: %w", hub.ErrLimitExceeded, err)
	case errors.Is(err, cluster.ErrBusy):
		return fmt.Errorf("%w: %w", hub.ErrTooManyRequests, err)
	case errors.As(err, &incomplete), errors.Is(err, context.DeadlineExceeded), errors.Is(err, cluster.ErrClosed):
		return fmt.Errorf("%w: %w", hub.ErrUnavailable, err)
	}
	return err
}

// remoteError is a refusal of another node's, with its words.
type remoteError struct {
	refusal *hub.Error
	text    string
}

// Error implements error.
func (e *remoteError) Error() string { return e.text }

func (e *remoteError) Unwrap() error { return e.refusal }

// Commands to clients, wherever they are. They answer how many there were.
type (
	subscribeCommand struct {
		api.Target
		api.Subscription
	}
	unsubscribeCommand struct {
		api.Target
		Channel string
	}
	disconnectCommand struct {
		api.Target
		api.Disconnect
	}
	refreshCommand struct {
		api.Target
		api.Refresh
	}
)

// target is whom a command is for.
func (c subscribeCommand) target() api.Target   { return c.Target }
func (c unsubscribeCommand) target() api.Target { return c.Target }
func (c disconnectCommand) target() api.Target  { return c.Target }
func (c refreshCommand) target() api.Target     { return c.Target }

type targeted interface{ target() api.Target }

// command is a Method that does something to clients of this node.
func command[Q targeted](here clients, f func(ctx context.Context, q Q) error) cluster.Method {
	return method(func(ctx context.Context, q Q, out *cluster.Answer) error {
		count := here.count(q.target())
		if err := f(ctx, q); err != nil {
			return err
		}
		return out.Add(count)
	})
}

// count returns how many clients are meant.
func (c clients) count(t api.Target) int {
	return c.server.centrifuge.Count(centrifuge.Target(t)) + c.server.plain.Count(t.User, t.Client)
}

// everyClient is the api.Clients of all nodes.
type everyClient struct{ *nodes }

var _ api.Clients = everyClient{}

// Subscribe implements api.Clients.
func (e everyClient) Subscribe(ctx context.Context, t api.Target, s api.Subscription) error {
	return e.do(ctx, askSubscribe, t, subscribeCommand{t, s}, func(here clients) error { return here.Subscribe(ctx, t, s) })
}

// Unsubscribe implements api.Clients.
func (e everyClient) Unsubscribe(ctx context.Context, t api.Target, channel string) error {
	return e.do(ctx, askUnsubscribe, t, unsubscribeCommand{t, channel}, func(here clients) error { return here.Unsubscribe(ctx, t, channel) })
}

// Disconnect implements api.Clients.
func (e everyClient) Disconnect(ctx context.Context, t api.Target, d api.Disconnect) error {
	return e.do(ctx, askDisconnect, t, disconnectCommand{t, d}, func(here clients) error { return here.Disconnect(ctx, t, d) })
}

// Refresh implements api.Clients.
func (e everyClient) Refresh(ctx context.Context, t api.Target, r api.Refresh) error {
	return e.do(ctx, askRefresh, t, refreshCommand{t, r}, func(here clients) error { return here.Refresh(ctx, t, r) })
}

// do carries a command out here and on all other nodes. One for a single client is done when the node has answered that has it.
func (e everyClient) do(ctx context.Context, name string, t api.Target, q any, f func(here clients) error) error {
	here := clients{e.server}
	if t.Client != "" && here.count(t) > 0 {
		return f(here)
	}
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	asked, err := e.cluster.Ask(name, body)
	failed := f(here)
	if err == nil {
		err = asked.Wait(ctx, func(_ string, body []byte) (enough bool, err error) {
			var counts []int
			if err := json.Unmarshal(body, &counts); err != nil {
				return false, err
			}
			return t.Client != "" && len(counts) > 0 && counts[0] > 0, nil
		})
	}
	if failed != nil {
		return failed
	}
	return clusterError(err)
}

// revoke has a revocation last for all nodes, and ends on all what was made with the tokens. filed is whether it is in this one's file.
func (n *nodes) revoke(ctx context.Context, e auth.Revocation, filed error) (lasting bool, err error) {
	record, err := recordOf(e)
	if err != nil {
		return false, err
	}
	asked, err := n.cluster.Ask(askRevoke, record.Data)
	lasting = n.server.revocations.Lasting() && filed == nil
	if n.records != nil {
		if e := n.records.Add(ctx, record); e != nil {
			filed = errors.Join(filed, fmt.Errorf("%w: %w", hub.ErrUnavailable, e))
		} else {
			lasting = true
		}
	}
	filed = errors.Join(filed, n.server.endRevoked(ctx, e))
	if err == nil {
		err = asked.Wait(ctx, nil)
	}
	return lasting, errors.Join(filed, clusterError(err))
}

func recordOf(e auth.Revocation) (cluster.Record, error) {
	b, err := json.Marshal(e)
	r := cluster.Record{Data: b}
	if e.Until != 0 {
		r.Until = time.Unix(e.Until, 0)
	}
	return r, err
}

// known are the revocations that this node knows.
func (n *nodes) known() (list []cluster.Record) {
	for _, e := range n.server.revocations.All() {
		if r, err := recordOf(e); err == nil {
			list = append(list, r)
		}
	}
	return list
}

// learn takes a revocation of the log.
func (n *nodes) learn(record []byte) error {
	var e auth.Revocation
	if err := json.Unmarshal(record, &e); err != nil {
		return err
	}
	if err := e.Validate(); err != nil {
		return err
	}
	isNew, err := n.server.revocations.Learn(e)
	if err != nil || !isNew {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.server.config.Cluster.WithDefaults().AskTimeout)
	defer cancel()
	if err := n.server.endRevoked(ctx, e); err != nil { // some clients do not take their turn; they are ended when they do
		n.server.config.Logger.Warn("connections of a revoked token did not end yet", "error", err)
	}
	return nil
}

// toldRevocation answers askRevoke.
func (n *nodes) toldRevocation(ctx context.Context, e auth.Revocation, _ *cluster.Answer) error {
	if err := e.Validate(); err != nil {
		return fmt.Errorf("%w: %w", hub.ErrBadRequest, err)
	}
	_, err := n.server.revocations.Learn(e)
	if errors.Is(err, auth.ErrTooManyRevocations) {
		return fmt.Errorf("%w: %w", hub.ErrLimitExceeded, err)
	}
	return errors.Join(err, n.server.endRevoked(ctx, e))
}

// presenceQuestion is askPresence and askPresenceStats.
type presenceQuestion struct {
	Channel string `json:"channel"`
	Max     int    `json:"max"` // clients
}

// present is a client as nodes tell each other.
type present struct {
	Client string `json:"c"`
	User   string `json:"u,omitempty"`
	Info   []byte `json:"i,omitempty"` // of the connection
	Chan   []byte `json:"s,omitempty"` // of the subscription
}

// tellPresence answers askPresence. It is the asking node that looks at the channel's options.
func (n *nodes) tellPresence(_ context.Context, q presenceQuestion, out *cluster.Answer) error {
	var list []*hub.ClientInfo
	n.server.hub.EachPresent(q.Channel, func(info *hub.ClientInfo) bool {
		list = append(list, info)
		return len(list) <= q.Max
	})
	if len(list) > q.Max {
		return tooManyPresent(q.Max)
	}
	for _, info := range list {
		if err := out.Add(present{info.Client, info.User, info.ConnInfo, info.ChanInfo}); err != nil {
			return err
		}
	}
	return nil
}

func tooManyPresent(most int) error {
	return fmt.Errorf("%w: more than %d clients are in the channel", hub.ErrLimitExceeded, most)
}

// presence asks all nodes who is in a channel.
func (n *nodes) presence(channel string) ([]*hub.ClientInfo, error) {
	most := n.server.hub.MaxPresence()
	list, err := n.server.hub.Presence(channel) // which says whether there is such a thing
	if err != nil {
		return nil, err
	}
	err = gather(n, askPresence, presenceQuestion{channel, most}, func(p present) error {
		if len(list) >= most {
			return tooManyPresent(most)
		}
		list = append(list, &hub.ClientInfo{Client: p.Client, User: p.User, ConnInfo: p.Info, ChanInfo: p.Chan})
		return nil
	})
	return list, err
}

// presenceCount is one entry of an answer to askPresenceStats: some of the users, and in the first all clients.
type presenceCount struct {
	Clients int    `json:"n,omitempty"`
	Users   []byte `json:"u,omitempty"` // 8 bytes for each, of a hash
}

// userHash is what nodes tell of a user, of whom they want to know only whether it is the same.
type userHash [8]byte

func hashUser(user string) (h userHash) {
	sum := sha256.Sum256([]byte(user))
	copy(h[:], sum[:])
	return h
}

// countPresent counts a channel's clients on this node, and their users.
func (n *nodes) countPresent(channel string) (clients int, users map[userHash]struct{}) {
	names := map[string]struct{}{}
	n.server.hub.EachPresent(channel, func(info *hub.ClientInfo) bool {
		clients++
		names[info.User] = struct{}{}
		return true
	})
	users = make(map[userHash]struct{}, len(names))
	for name := range names {
		users[hashUser(name)] = struct{}{}
	}
	return clients, users
}

// tellPresenceStats answers askPresenceStats.
func (n *nodes) tellPresenceStats(_ context.Context, q presenceQuestion, out *cluster.Answer) error {
	const most = 4096 // users of an entry
	count, users := n.countPresent(q.Channel)
	entry := presenceCount{Clients: count}
	for h := range users {
		if len(entry.Users) == most*len(h) {
			if err := out.Add(entry); err != nil {
				return err
			}
			entry = presenceCount{}
		}
		entry.Users = append(entry.Users, h[:]...)
	}
	return out.Add(entry)
}

// presenceStats asks all nodes how many are in a channel.
func (n *nodes) presenceStats(channel string) (hub.PresenceStats, error) {
	if err := n.server.hub.CheckPresence(channel); err != nil {
		return hub.PresenceStats{}, err
	}
	count, users := n.countPresent(channel)
	err := gather(n, askPresenceStats, presenceQuestion{Channel: channel}, func(p presenceCount) error {
		count += p.Clients
		for ; len(p.Users) >= len(userHash{}); p.Users = p.Users[len(userHash{}):] {
			users[userHash(p.Users[:len(userHash{})])] = struct{}{}
		}
		return nil
	})
	return hub.PresenceStats{Clients: count, Users: len(users)}, err
}

// channelCount is an entry of an answer to askChannels.
type channelCount struct {
	Channel     string `json:"c"`
	Subscribers int    `json:"n"`
}

// tellChannels answers askChannels.
func (n *nodes) tellChannels(ctx context.Context, q api.ChannelsQuery, out *cluster.Answer) error {
	list, err := api.Local{Hub: n.server.hub}.Channels(ctx, q)
	if err != nil {
		return err
	}
	for name, subscribers := range list {
		if err := out.Add(channelCount{name, subscribers}); err != nil {
			return err
		}
	}
	return nil
}

// gather asks all other nodes, and calls take for each entry of their answers.
func gather[E any](n *nodes, name string, q any, take func(E) error) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	asked, err := n.cluster.Ask(name, body)
	if err != nil {
		return clusterError(err)
	}
	return clusterError(asked.Wait(context.Background(), func(_ string, body []byte) (bool, error) {
		var entries []E
		if err := json.Unmarshal(body, &entries); err != nil {
			return false, fmt.Errorf("%w: an answer to %s that is none: %w", hub.ErrUnavailable, name, err)
		}
		for _, e := range entries {
			if err := take(e); err != nil {
				return false, err
			}
		}
		return false, nil
	}))
}

// audience is the api.Audience of all nodes.
type audience struct{ *nodes }

var _ api.Audience = audience{}

// Presence implements api.Audience.
func (a audience) Presence(ctx context.Context, channel string) ([]*hub.ClientInfo, error) {
	return await(ctx, channel, a.askPresence)
}

// PresenceStats implements api.Audience.
func (a audience) PresenceStats(ctx context.Context, channel string) (hub.PresenceStats, error) {
	return await(ctx, channel, a.askPresenceStats)
}

// Channels implements api.Audience.
func (a audience) Channels(ctx context.Context, q api.ChannelsQuery) (map[string]int, error) {
	list, err := api.Local{Hub: a.server.hub}.Channels(ctx, q)
	if err != nil {
		return nil, err
	}
	return list, gather(a.nodes, askChannels, q, func(c channelCount) error {
		list[c.Channel] += c.Subscribers
		if len(list) > q.Max {
			return q.ErrTooManyChannels()
		}
		return nil
	})
}

// askPresence is an inquiry.Ask.
func (n *nodes) askPresence(_ inquiry.Caller, channel string, done func([]*hub.ClientInfo, error)) error {
	return share(n, &n.presences, channel, n.presence, done)
}

// askPresenceStats is an inquiry.Ask.
func (n *nodes) askPresenceStats(_ inquiry.Caller, channel string, done func(hub.PresenceStats, error)) error {
	return share(n, &n.stats, channel, n.presenceStats, done)
}

// share asks about a channel, together with others who want to know the same.
func share[A any](n *nodes, s *cluster.Shared[A], channel string, ask func(channel string) (A, error), done func(A, error)) error {
	if !s.Do(channel, n.server.config.Cluster.WithDefaults().MaxAsks, func() (A, error) { return ask(channel) }, done) {
		return fmt.Errorf("%w: %w", hub.ErrTooManyRequests, cluster.ErrBusy)
	}
	return nil
}

// await waits for the answer to a question.
func await[A any](ctx context.Context, channel string, ask inquiry.Ask[string, A]) (A, error) {
	type outcome struct {
		answer A
		err    error
	}
	came := make(chan outcome, 1)
	var none A
	if err := ask(inquiry.Caller{}, channel, func(a A, err error) { came <- outcome{a, err} }); err != nil {
		return none, err
	}
	select {
	case o := <-came:
		return o.answer, o.err
	case <-ctx.Done():
		return none, clusterError(ctx.Err())
	}
}
