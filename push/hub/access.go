package hub

import (
	"fmt"
	"slices"
	"strings"
)

// Actor is a client that wants something of a channel.
type Actor struct {
	User       string // empty is an anonymous one
	Subscribed bool   // to the channel
	Everything bool   // it may do all there is: development
	Granted    Rights // in the channel, beside what the options say
}

// Rights are what a subscription, or a connection, may be given beside what the options of a channel say.
type Rights uint8

// The rights.
const (
	RightPublish   Rights = 1 << iota // without a question to PublishWebhook
	RightPresence                     // and to hear who comes and goes
	RightHistory                      // and to have what was missed recovered
	RightSubscribe                    // where neither the channel's name nor SubscribeWebhook decides
)

// rightNames are those of Centrifugo's capabilities.
var rightNames = map[string]Rights{"sub": RightSubscribe, "pub": RightPublish, "prs": RightPresence, "hst": RightHistory}

// ParseRights reads a list of names: sub, pub, prs and hst.
func ParseRights(names []string) (r Rights, err error) {
	for _, name := range names {
		right, ok := rightNames[name]
		if !ok {
			return 0, fmt.Errorf("%w: it is not a list of pub, prs, hst and sub", ErrBadRequest)
		}
		r |= right
	}
	return r, nil
}

// has reports whether a right is given to a.
func (a Actor) has(r Rights) bool { return a.Granted&r != 0 }

// allowed reports whether one of the three permissions is given to a.
func (a Actor) allowed(client, anonymous, subscriber bool) bool {
	return a.Everything || client && (a.User != "" || anonymous) || subscriber && a.Subscribed
}

// MaySubscribe reports whether a may subscribe to the channel without a token for it.
func (o *Options) MaySubscribe(channel string, a Actor) bool {
	switch {
	case a.Everything:
		return true
	case strings.HasPrefix(channel, PrivatePrefix):
		return false
	case o.AllowUserLimitedChannels && strings.Contains(channel, UserBoundary):
		return a.User != "" && slices.Contains(Users(channel), a.User)
	}
	return a.has(RightSubscribe) || a.allowed(o.AllowSubscribeForClient, o.AllowSubscribeForAnonymous, false)
}

// NeedsRightToSubscribe reports whether a, who may subscribe, may because of RightSubscribe alone.
func (o *Options) NeedsRightToSubscribe(channel string, a Actor) bool {
	a.Granted &^= RightSubscribe
	return !o.MaySubscribe(channel, a)
}

// MayAskToSubscribe reports whether SubscribeWebhook is to be asked about a client without a token for the channel. What
// the channel's name says goes before: that it is private, or whose it is.
func (o *Options) MayAskToSubscribe(channel string) bool {
	return o.SubscribeWebhook != "" && !strings.HasPrefix(channel, PrivatePrefix) &&
		!(o.AllowUserLimitedChannels && strings.Contains(channel, UserBoundary))
}

// Users returns the users that the name of a user-limited channel lists.
func Users(channel string) []string {
	_, list, ok := strings.Cut(channel, UserBoundary)
	if !ok {
		return nil
	}
	return strings.Split(list, UserSeparator)
}

// MayHavePersonalChannel reports whether a user can have one: a name that lists several would let these in.
func MayHavePersonalChannel(user string) bool {
	return user != "" && !strings.ContainsAny(user, UserSeparator+UserBoundary)
}

// PersonalChannel returns the name of the channel, in a namespace that may be empty, that is a user's own.
func PersonalChannel(namespace, user string) string {
	if namespace == "" {
		return UserBoundary + user
	}
	return namespace + NamespaceBoundary + UserBoundary + user
}

// inside reports whether a is subscribed to the channel, or may subscribe to it by itself. What clients may do in a channel that is not for
// all of them, a private or a user-limited one, they may not do there from outside.
func (o *Options) inside(channel string, a Actor) bool {
	switch {
	case a.Subscribed || a.Everything:
		return true
	case strings.HasPrefix(channel, PrivatePrefix):
		return false
	case o.AllowUserLimitedChannels && strings.Contains(channel, UserBoundary):
		return o.MaySubscribe(channel, a)
	}
	return true
}

// MayPublish reports whether a may publish to the channel.
func (o *Options) MayPublish(channel string, a Actor) bool {
	return o.inside(channel, a) && (a.has(RightPublish) || a.allowed(o.AllowPublishForClient, o.AllowPublishForAnonymous, o.AllowPublishForSubscriber))
}

// AsksToPublish reports whether PublishWebhook decides whether a may publish, rather than the options.
func (o *Options) AsksToPublish(a Actor) bool { return o.PublishWebhook != "" && !a.has(RightPublish) }

// MayAskToPublish reports whether PublishWebhook is to be asked whether a may publish: what the channel's name says goes before.
func (o *Options) MayAskToPublish(channel string, a Actor) bool { return o.inside(channel, a) }

// MayAskPresence reports whether a may know who is subscribed to the channel.
func (o *Options) MayAskPresence(channel string, a Actor) bool {
	return o.inside(channel, a) && (a.has(RightPresence) || a.allowed(o.AllowPresenceForClient, o.AllowPresenceForAnonymous, o.AllowPresenceForSubscriber))
}

// MayAskHistory reports whether a may have what is kept of the channel's past.
func (o *Options) MayAskHistory(channel string, a Actor) bool {
	return o.inside(channel, a) && (a.has(RightHistory) || a.allowed(o.AllowHistoryForClient, o.AllowHistoryForAnonymous, o.AllowHistoryForSubscriber))
}
