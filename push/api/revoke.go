package api

import (
	"context"
	"fmt"
	"time"

	"github.com/millpond/millpond/push/hub"
)

// Revoker refuses tokens that are good otherwise, and ends what was made with them, on this node, before it returns.
// lasting says that a revocation outlives the process. A zero until is for ever.
type Revoker interface {
	// RevokeToken does it to the token with an id, its claim jti.
	RevokeToken(ctx context.Context, id string, until time.Time) (lasting bool, err error)
	// InvalidateUser does it to a user's tokens that were issued before a time, by their claim iat; without one a token
	// is as old as can be.
	InvalidateUser(ctx context.Context, user string, before, until time.Time) (lasting bool, err error)
	// InvalidateAll does it to everybody's. It returns when the clients have been told to look.
	InvalidateAll(ctx context.Context, before, until time.Time) (lasting bool, err error)
}

// revocation is the answer.
type revocation struct {
	Lasting bool `json:"lasting"`
}

type revokeTokenRequest struct {
	UID      string `json:"uid"`
	ExpireAt int64  `json:"expire_at"`
}

func (h *Handler) revokeToken(ctx context.Context, body []byte) (any, error) {
	var request revokeTokenRequest
	if err := decode(body, &request); err != nil {
		return nil, err
	}
	until, err := expireAt(request.ExpireAt)
	switch {
	case request.UID == "":
		err = missing("uid")
	case len(request.UID) > maxKeyBytes:
		err = tooLong("uid", len(request.UID))
	}
	if err != nil {
		return nil, err
	}
	return h.revoke(func(r Revoker) (bool, error) { return r.RevokeToken(ctx, request.UID, until) })
}

// invalidation is what the requests for many tokens have in common.
type invalidation struct {
	IssuedBefore int64   `json:"issued_before"`
	ExpireAt     int64   `json:"expire_at"`
	Channel      *string `json:"channel"`
}

// maxAhead is how far in the future tokens may be issued that are revoked already.
const maxAhead = 24 * time.Hour

func (i *invalidation) times() (before, until time.Time, err error) {
	if i.Channel != nil { // to leave it out would revoke more than was asked for
		return before, until, wrong("channel", "cannot be given; tokens are revoked for all channels")
	}
	switch {
	case i.IssuedBefore < 0:
		return before, until, wrong("issued_before", "is negative")
	case i.IssuedBefore > time.Now().Add(maxAhead).Unix(): // no revocation is taken back: milliseconds would lock everybody out for ever
		return before, until, wrong("issued_before", "is more than a day ahead; it has Unix seconds")
	case i.IssuedBefore > 0:
		before = time.Unix(i.IssuedBefore, 0)
	default: // iat has no fractions: those of the present second are meant too
		before = time.Now().Truncate(time.Second).Add(time.Second)
	}
	until, err = expireAt(i.ExpireAt)
	return before, until, err
}

type invalidateUserRequest struct {
	User string `json:"user"`
	invalidation
}

func (h *Handler) invalidateUserTokens(ctx context.Context, body []byte) (any, error) {
	var request invalidateUserRequest
	if err := decode(body, &request); err != nil {
		return nil, err
	}
	before, until, err := request.times()
	switch {
	case request.User == "":
		err = missing("user")
	case len(request.User) > maxKeyBytes:
		err = tooLong("user", len(request.User))
	}
	if err != nil {
		return nil, err
	}
	return h.revoke(func(r Revoker) (bool, error) { return r.InvalidateUser(ctx, request.User, before, until) })
}

func (h *Handler) invalidateAllTokens(ctx context.Context, body []byte) (any, error) {
	var request invalidation
	if err := decodeOptional(body, &request); err != nil {
		return nil, err
	}
	before, until, err := request.times()
	if err != nil {
		return nil, err
	}
	return h.revoke(func(r Revoker) (bool, error) { return r.InvalidateAll(ctx, before, until) })
}

func (h *Handler) revoke(f func(Revoker) (bool, error)) (any, error) {
	if h.config.Revoker == nil {
		return nil, fmt.Errorf("%w: this server revokes no tokens", hub.ErrNotAvailable)
	}
	lasting, err := f(h.config.Revoker)
	if err != nil {
		return nil, err
	}
	return revocation{lasting}, nil
}

// expireAt is until when a revocation is kept; zero is for ever.
func expireAt(seconds int64) (time.Time, error) {
	if seconds == 0 {
		return time.Time{}, nil
	}
	at := time.Unix(seconds, 0)
	if seconds < 0 || !at.After(time.Now()) {
		return time.Time{}, wrong("expire_at", "is over")
	}
	return at, nil
}
