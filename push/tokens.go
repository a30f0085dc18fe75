package push

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millpond/millpond/push/api"
	"github.com/millpond/millpond/push/auth"
	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/protocol/centrifuge"
	"github.com/millpond/millpond/push/protocol/inquiry"
	"github.com/millpond/millpond/push/protocol/plain"
	"github.com/millpond/millpond/session"
)

// This file joins tokens, and their revocation, with the protocols and the API.

// newVerifier opens what tokens are verified with.
func (s *Server) newVerifier() (err error) {
	if s.revocations, err = auth.OpenRevocations(s.config.DataDir, s.config.MaxRevocations); err != nil {
		return fmt.Errorf("data-dir: %w", err)
	}
	if s.verifier, err = auth.New(s.config.tokens(s.revocations)); err != nil {
		return errors.Join(err, s.revocations.Close())
	}
	return nil
}

func (s *Server) closeVerifier() error { return errors.Join(s.verifier.Close(), s.revocations.Close()) }

// centrifugeTokens is the centrifuge.Authenticator of a server with tokens.
type centrifugeTokens struct {
	verifier  *auth.Verifier
	anonymous bool // no token is needed
	dev       bool // and everybody may do everything
}

var _ centrifuge.Authenticator = (*centrifugeTokens)(nil)

func (s *Server) clientTokens() *centrifugeTokens {
	return &centrifugeTokens{verifier: s.verifier, anonymous: s.config.AllowAnonymous || s.config.Dev, dev: s.config.Dev}
}

// Connect implements centrifuge.Authenticator.
func (t *centrifugeTokens) Connect(ctx context.Context, r centrifuge.ConnectRequest) (centrifuge.Identity, error) {
	if r.Token == "" {
		if t.anonymous {
			return centrifuge.Identity{Everything: t.dev}, nil
		}
		return centrifuge.Identity{}, centrifuge.DisconnectPermissionDenied
	}
	id, err := t.verifier.Verify(ctx, r.Token)
	if err != nil {
		return centrifuge.Identity{}, tokenError(err, centrifuge.DisconnectInvalidToken)
	}
	out := centrifuge.Identity{
		User: id.User, Info: id.Info, Meta: id.Meta, Caps: id.Caps, Expires: id.Expires, Token: centrifuge.Token(id.Mark), Everything: t.dev,
	}
	for _, s := range id.Subs {
		out.Subs = append(out.Subs, centrifuge.ServerSubscription{Channel: s.Channel, Info: s.Info, Data: s.Data, Override: s.Override})
	}
	return out, nil
}

// Subscribe implements centrifuge.Authenticator.
func (t *centrifugeTokens) Subscribe(ctx context.Context, r centrifuge.SubscribeRequest) (centrifuge.Grant, error) {
	token, err := t.verifier.VerifySubscription(ctx, r.Token)
	switch {
	case err != nil:
		return centrifuge.Grant{}, tokenError(err, hub.ErrPermissionDenied)
	case token.Channel != r.Channel || token.User != r.User || token.Client != "" && token.Client != r.Client:
		return centrifuge.Grant{}, centrifuge.DisconnectInvalidToken
	}
	return centrifuge.Grant{Grant: inquiry.Grant{Info: token.Info, Override: token.Override, Expires: token.Expires}, Token: centrifuge.Token(token.Mark)}, nil
}

// tokenError is what a client is told of a token that is not good; invalid, unless something else can be said.
func tokenError(err, invalid error) error {
	switch {
	case errors.Is(err, auth.ErrExpired):
		return hub.ErrTokenExpired
	case errors.Is(err, auth.ErrUnavailable): // an SDK tries again, a little later
		return fmt.Errorf("%w: %w", hub.ErrTooManyRequests, err)
	}
	return fmt.Errorf("%w: %w", invalid, err)
}

// plainTokens is the plain.Authenticator of a server with tokens.
type plainTokens struct{ verifier *auth.Verifier }

var _ plain.Authenticator = plainTokens{}

// Authenticate accepts a token alone.
func (t plainTokens) Authenticate(ctx context.Context, c plain.Credentials) (*plain.Identity, error) {
	if c.Token == "" {
		return nil, fmt.Errorf("%w: a token is needed", hub.ErrUnauthorized)
	}
	id, err := t.verifier.Verify(ctx, c.Token)
	if err != nil {
		return nil, tokenError(err, hub.ErrUnauthorized)
	}
	out := &plain.Identity{User: id.User, Info: id.Info, Meta: id.Meta, Caps: id.Caps, Expires: id.Expires, Token: plain.Token(id.Mark)}
	for _, s := range id.Subs {
		out.Channels = append(out.Channels, s.Channel)
	}
	return out, nil
}

func (s *Server) revokedCentrifuge(user string, t centrifuge.Token) bool {
	return s.revocations.Revoked(user, auth.Mark(t))
}

func (s *Server) revokedPlain(user string, t plain.Token) bool {
	return s.revocations.Revoked(user, auth.Mark(t))
}

// revoker is the api.Revoker of a server.
type revoker struct{ server *Server }

var _ api.Revoker = revoker{}

// RevokeToken implements api.Revoker.
func (r revoker) RevokeToken(ctx context.Context, id string, until time.Time) (lasting bool, err error) {
	return r.server.revoke(ctx, auth.RevokedToken(id, until))
}

// InvalidateUser implements api.Revoker.
func (r revoker) InvalidateUser(ctx context.Context, user string, before, until time.Time) (lasting bool, err error) {
	return r.server.revoke(ctx, auth.RevokedUser(user, before, until))
}

// InvalidateAll implements api.Revoker.
func (r revoker) InvalidateAll(ctx context.Context, before, until time.Time) (lasting bool, err error) {
	return r.server.revoke(ctx, auth.RevokedAll(before, until))
}

// revoke has a revocation last, and ends what was made with the tokens, on all nodes.
func (s *Server) revoke(ctx context.Context, e auth.Revocation) (lasting bool, err error) {
	err = s.revocations.Add(e)
	if errors.Is(err, auth.ErrTooManyRevocations) {
		return false, fmt.Errorf("%w: %w", hub.ErrLimitExceeded, err)
	}
	if s.nodes != nil {
		return s.nodes.revoke(ctx, e, err)
	}
	return s.revocations.Lasting(), errors.Join(err, s.endRevoked(ctx, e))
}

// endRevoked ends what clients of this node have by tokens that are revoked now. Where that may be everybody, the clients are woken to check
// themselves: it does not wait for a million of them.
func (s *Server) endRevoked(ctx context.Context, e auth.Revocation) error {
	switch {
	case e.Token != "":
		return errors.Join(s.centrifuge.RevokeToken(ctx, e.Token), s.plain.RevokeToken(ctx, e.Token))
	case e.User != nil:
		return errors.Join(s.centrifuge.RecheckUser(ctx, *e.User), s.plain.RecheckUser(ctx, *e.User))
	}
	s.centrifuge.RecheckAll()
	s.plain.RecheckAll()
	s.engine.Range(func(session *session.Session) { session.Wake() })
	return nil
}
