package nats

import (
	"context"
	"slices"
	"sync"
	"time"
)

// This file is about servers of a cluster, of which one may have lost the newest of its data with its host's power. What was acknowledged is on most of a stream's servers. So
// as long as most of them are sound, which is to say that they have all they ever had, nothing is missing; otherwise the stream is another from now on.

// soundTimeout is for how long the others may say that they are sound. It is spent only when this node's server is not.
const soundTimeout = 2 * time.Second

func (b *Broker) soundSubject() string { return b.config.Link.Prefix() + ".sound" }

// tellSound answers those who want to know, while this node's server has all it ever had.
func (b *Broker) tellSound() error {
	if b.config.Member == "" {
		return nil
	}
	stop, err := b.config.Link.Subscribe(b.soundSubject(), 1024, func(m Message) {
		if b.sound.Load() && m.Reply != "" {
			_ = b.config.Link.Publish(m.Reply, "", []byte(b.config.Member)) // who is not heard counts as not sound
		}
	})
	if err == nil {
		b.stopSound = stop
	}
	return err
}

// askSound returns the other servers of the cluster that are sound.
func (b *Broker) askSound(ctx context.Context) (names []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, soundTimeout)
	defer cancel()
	var mu sync.Mutex
	inbox := b.config.Link.Inbox()
	stop, err := b.config.Link.Subscribe(inbox, 1024, func(m Message) {
		mu.Lock()
		defer mu.Unlock()
		if name := string(m.Data); name != b.config.Member && !slices.Contains(names, name) {
			names = append(names, name)
		}
	})
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := b.config.Link.Publish(b.soundSubject(), inbox, nil); err != nil {
		return nil, err
	}
	<-ctx.Done()
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(names), nil
}

// needsRenewal reports whether publications may be missing in a stream, of which these servers are sound, because this node's server lost them.
func (b *Broker) needsRenewal(st state, sound []string) bool {
	if b.config.Renew == "" {
		return false
	}
	if b.config.Member == "" {
		return true
	}
	if !slices.Contains(st.servers, b.config.Member) {
		return false // those who have it see to it
	}
	n := 0
	for _, name := range st.servers {
		if slices.Contains(sound, name) {
			n++
		}
	}
	return n <= len(st.servers)/2
}
