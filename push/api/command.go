package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// queueName stands for whoever publishes by a queue, where others are named by their keys.
const queueName = "queue"

// Command is a publish or broadcast that did not come by HTTP. Its methods are called by one goroutine at a time.
type Command struct {
	handler *Handler
	method  string
	call    *call
	line    bulkLine
	data    []byte
	options hub.PublishOptions
	to      []destination // what is left to do, after each Do
	names   []string
	done    bool
	refused error // what is to be said at the end
}

// destination is a channel, and where the command names it.
type destination struct{ field, channel string }

// Command reads a command: an object as on a line of a bulk, or with a channel the data to be published there. key stands for an idempotency key
// that the object does not have. An error says that it is malformed.
func (h *Handler) Command(body []byte, channel, key string) (*Command, error) {
	c := &Command{handler: h, call: &call{id: h.newID(), key: h.queue, begun: time.Now()}}
	if int64(len(body)) > h.config.MaxBodyBytes {
		return nil, fmt.Errorf("%w: the message has %d bytes, at most %d are allowed", hub.ErrLimitExceeded, len(body), h.config.MaxBodyBytes)
	}
	if channel != "" {
		c.line.Channel, c.line.B64Data = channel, body
		if c.line.B64Data == nil {
			c.line.B64Data = []byte{}
		}
	} else if err := decode(body, &c.line); err != nil {
		return nil, err
	}
	if err := c.resolve(); err != nil {
		return nil, err
	}
	var err error
	if c.data, err = c.line.payload(); err != nil {
		return nil, err
	}
	if c.options, err = c.line.options(); err != nil {
		return nil, err
	}
	if c.options.IdempotencyKey == "" {
		if c.options.IdempotencyKey = key; len(key) > maxKeyBytes {
			sum := sha256.Sum256([]byte(key))
			c.options.IdempotencyKey = base64.RawURLEncoding.EncodeToString(sum[:])
		}
	}
	return c, nil
}

// resolve finds out where it goes.
func (c *Command) resolve() error {
	h, l := c.handler, &c.line
	c.method = "broadcast"
	switch n := len(l.Channels) + len(l.Users); {
	case l.Channels == nil && l.Users == nil:
		c.method = "publish"
		if l.Channel == "" {
			return missing("channel")
		}
		c.to = []destination{{"channel", l.Channel}}
	case l.Channel != "":
		return wrong("channel", `is there beside "channels" or "users"`)
	case n == 0:
		return missing("channels")
	case n > h.config.MaxChannels:
		return tooMany("channels", n, h.config.MaxChannels)
	case len(l.Users) > 0 && h.config.PersonalChannel == nil:
		return &fieldError{hub.ErrNotAvailable, "users", "needs personal channels: serve --personal-channels"}
	}
	for i, channel := range l.Channels {
		if channel == "" {
			return missing(fmt.Sprintf("channels[%d]", i))
		}
		c.to = append(c.to, destination{fmt.Sprintf("channels[%d]", i), channel})
	}
	for i, user := range l.Users {
		channel, err := h.config.PersonalChannel(user)
		if err != nil {
			return &fieldError{hub.ErrBadRequest, fmt.Sprintf("users[%d]", i), err.Error()}
		}
		c.to = append(c.to, destination{fmt.Sprintf("users[%d]", i), channel})
	}
	for _, d := range c.to {
		c.names = append(c.names, d.channel)
	}
	return nil
}

// Channels are those that it publishes to.
func (c *Command) Channels() []string { return c.names }

// Do publishes to the channels to which has not been published. An error that is temporary says of how many that is so still; another one is of a
// channel that refuses for good, and is returned when no other is left.
func (c *Command) Do(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, callKey{}, c.call), c.handler.config.Timeout)
	defer cancel()
	var left []destination
	var last error
	errs := make([]error, len(c.to))
	together(len(c.to), c.handler.config.Together, func(i int) { _, errs[i] = c.handler.send(ctx, c.to[i].channel, c.data, c.options) })
	for i, d := range c.to {
		switch err := errs[i]; {
		case err == nil:
		case isTemporary(err):
			left, last = append(left, d), err
		default:
			c.refused = errors.Join(c.refused, fmt.Errorf("%s: %w", d.field, err))
		}
	}
	if c.to = left; len(left) > 0 {
		return fmt.Errorf("%d of %d channels: %w", len(left), len(c.names), last)
	}
	if !c.done {
		c.done = true
		c.call.key.count(c.handler.numbers[c.method], codeOf(c.refused))
		if c.handler.audited(c.method) {
			target := commandTarget{Channel: c.line.Channel, Channels: c.line.Channels, Users: c.line.Users}
			c.handler.audit(c.call, c.method, target.attrs(), c.refused)
		}
	}
	return c.refused
}

// isTemporary reports whether the same may be accepted later. What is no refusal is something that does not work.
func isTemporary(err error) bool {
	var refusal *hub.Error
	return !errors.As(err, &refusal) || refusal.Temporary
}
