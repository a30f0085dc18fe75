package cluster

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Node is another one, as its last heartbeat tells.
type Node struct {
	UID     string
	Name    string
	Version string
	Started time.Time
	Figures json.RawMessage
	Seen    time.Time // when it was heard
	Foreign bool      // its messages are of another version: it cannot be asked
}

// label names the node for people.
func (n *Node) label() string {
	if n.Name == "" {
		return n.UID
	}
	return n.Name + " (" + n.UID + ")"
}

// Nodes returns the others, by their names.
func (k *Cluster) Nodes() []Node {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := make([]Node, 0, len(k.nodes))
	for _, n := range k.nodes {
		list = append(list, *n)
	}
	slices.SortFunc(list, func(a, b Node) int { return strings.Compare(a.Name+"\x00"+a.UID, b.Name+"\x00"+b.UID) })
	return list
}

// beat tells the others, or one of them, of this node.
func (k *Cluster) beat(subject string, first bool) {
	b := &beat{Name: k.config.Name, Version: k.config.Version, Started: k.started.UnixMilli(), First: first}
	if k.config.Figures != nil {
		b.Figures = k.config.Figures()
	}
	if err := k.publish(subject, &message{Kind: kindBeat, Beat: b}); err != nil {
		k.config.Logger.Debug("cluster: heartbeat", "error", err)
	}
}

// onBeat takes what is sent to the subject of beats.
func (k *Cluster) onBeat(m message) {
	switch m.Kind {
	case kindBeat:
		if k.hear(m) || m.Beat.First { // the newcomer knows nobody
			k.beat(subjectNode+m.From, false)
		}
	case kindLeave:
		k.forget(m.From, "left")
	default:
		k.ignore(ignoredKind)
	}
}

// hear notes a node's beat, and reports whether it is a new one.
func (k *Cluster) hear(m message) (isNew bool) {
	b, now := m.Beat, time.Now()
	next := &Node{
		UID: m.From, Name: b.Name, Version: b.Version, Started: time.UnixMilli(b.Started), Figures: slices.Clone(b.Figures), Seen: now,
	}
	if isNew = k.note(next); isNew {
		k.config.Logger.Info("a node has joined the cluster", "node", next.label(), "version", next.Version)
	}
	return isNew
}

// foreign notes a node whose messages cannot be read.
func (k *Cluster) foreign(m message) {
	if k.note(&Node{UID: m.From, Seen: time.Now(), Foreign: true}) {
		k.config.Logger.Warn("a node of the cluster speaks another version, and cannot be asked", "node", m.From, "its", m.Version, "ours", protocolVersion)
	}
}

// note takes a node in, if there is room, and reports whether it is a new one.
func (k *Cluster) note(n *Node) (isNew bool) {
	k.mu.Lock()
	_, found := k.nodes[n.UID]
	taken := found || len(k.nodes) < k.config.MaxNodes-1 // this one is one of them
	again := n.Seen.Sub(k.crowded) < k.config.Timeout
	if taken {
		k.nodes[n.UID] = n
	} else {
		k.crowded = n.Seen
	}
	k.mu.Unlock()
	if taken {
		return !found
	}
	k.ignore(ignoredFull)
	if !again {
		k.config.Logger.Error("a node is not taken in: there are as many as may be", "node", n.label(), "cluster_max_nodes", k.config.MaxNodes)
	}
	return false
}

// allSeen counts all nodes as just heard.
func (k *Cluster) allSeen(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for uid, n := range k.nodes {
		seen := *n
		seen.Seen = now
		k.nodes[uid] = &seen
	}
}

// sweep forgets the nodes that were not heard for too long.
func (k *Cluster) sweep(now time.Time) {
	var gone []string
	k.mu.Lock()
	for uid, n := range k.nodes {
		if now.Sub(n.Seen) > k.config.Timeout {
			gone = append(gone, uid)
		}
	}
	k.mu.Unlock()
	for _, uid := range gone {
		k.counts.lost.Add(1)
		k.forget(uid, "was not heard of for "+k.config.Timeout.String())
	}
}

// forget takes a node out; nobody waits for its answers any more.
func (k *Cluster) forget(uid, why string) {
	k.mu.Lock()
	n, found := k.nodes[uid]
	delete(k.nodes, uid)
	questions := make([]*Question, 0, len(k.questions))
	for _, q := range k.questions {
		questions = append(questions, q)
	}
	k.mu.Unlock()
	if !found {
		return
	}
	k.config.Logger.Info("a node is gone from the cluster", "node", n.label(), "why", why)
	for _, q := range questions {
		q.without(uid, why == "left")
	}
}

// patience is for how many Timeouts nodes may have the same name before the log says so: one that was killed and started again is known twice for one, and one that
// takes over from another lives beside it for longer.
const patience = 6

// lastingNamesakes returns the names that are to be told of, once.
func (k *Cluster) lastingNamesakes(now time.Time) []string {
	k.mu.Lock()
	names := k.namesakesLocked()
	k.mu.Unlock()
	switch {
	case len(names) == 0:
		k.alike, k.toldAlike = time.Time{}, false
	case k.alike.IsZero():
		k.alike = now
	case !k.toldAlike && now.Sub(k.alike) > patience*k.config.Timeout:
		k.toldAlike = true
		return names
	}
	return nil
}

// namesakesLocked returns the names that nodes have which another has, too: twice for three. mu is held.
func (k *Cluster) namesakesLocked() (names []string) {
	seen := map[string]bool{k.config.Name: true}
	for _, n := range k.nodes {
		if seen[n.Name] && n.Name != "" {
			names = append(names, n.Name)
		}
		seen[n.Name] = true
	}
	slices.Sort(names)
	return names
}
