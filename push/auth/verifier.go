package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/millpond/millpond/push/watch"
)

// Config says which tokens are good.
type Config struct {
	// Keys are those of connections' tokens, Subscription those of channels' tokens. Nil is the same keys.
	Keys
	Subscription *Keys
	// JWKS says how key sets are fetched.
	JWKS JWKS
	// Audience has values of which the claim aud must have one. Empty accepts any.
	Audience []string
	// Issuer is what the claim iss must be, IssuerPattern a regular expression that it must match as a whole. Empty
	// accepts any.
	Issuer        string
	IssuerPattern string
	// Leeway is by how much the backend's clock may differ from this one. Zero is none.
	Leeway time.Duration
	// Insecure believes every signature if there are no keys: development.
	Insecure bool
	// Revocations are tokens that are refused all the same. Nil is none.
	Revocations *Revocations
	// Logger gets what was loaded, and what could not be. Nil means slog.Default().
	Logger *slog.Logger
}

// Validate reports all that keeps a Verifier from starting, by the names of the flags. It reads the files.
func (c Config) Validate() error {
	var errs []error
	for _, s := range []struct {
		prefix string
		keys   *Keys
	}{{"token-", &c.Keys}, {"subscription-token-", c.Subscription}} {
		if s.keys == nil {
			continue
		}
		if err := s.keys.check(); err != nil {
			errs = append(errs, prefixed(s.prefix, err)...)
		}
		if s.keys.PreviousSecretFile != "" && s.keys.PreviousUntil.IsZero() {
			errs = append(errs, fmt.Errorf("%shmac-previous-secret-file: it needs %shmac-previous-until: until when it is good", s.prefix, s.prefix))
		}
		if s.keys.JWKSURL != "" {
			if err := checkJWKSURL(s.keys.JWKSURL); err != nil {
				errs = append(errs, fmt.Errorf("%sjwks-url: %w", s.prefix, err))
			}
		}
	}
	if c.Leeway < 0 {
		errs = append(errs, fmt.Errorf("token-leeway: %v is negative", c.Leeway))
	}
	if c.Issuer != "" && c.IssuerPattern != "" {
		errs = append(errs, errors.New("token-issuer and token-issuer-regex: only one of them makes sense"))
	}
	if _, err := regexp.Compile(c.IssuerPattern); err != nil {
		errs = append(errs, fmt.Errorf("token-issuer-regex: %w", err))
	}
	return errors.Join(append(errs, c.JWKS.validate())...)
}

// prefixed puts the beginning of the flags' names before each of the errors.
func prefixed(prefix string, err error) (errs []error) {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, err := range all {
		errs = append(errs, fmt.Errorf("%s%w", prefix, err))
	}
	return errs
}

// Verifier verifies tokens. Its methods may be called by any goroutine.
type Verifier struct {
	// Immutable after New.
	config       Config
	connection   *source
	subscription *source // may be the same
	parser       *jwt.Parser
	issuer       *regexp.Regexp // nil accepts any
	watcher      *watch.Watcher // nil without files

	reloading sync.Mutex // one at a time

	// Any goroutine (atomic).
	verified atomic.Uint64
	refused  map[refusal]*atomic.Uint64 // the map does not change
	reloads  atomic.Int64
	failed   atomic.Int64
}

// source is where the keys of one kind of tokens are.
type source struct {
	// Immutable after New.
	keys   *Keys
	remote *remote // nil without a URL

	// Any goroutine (atomic).
	local atomic.Pointer[ring] // what the files said last
}

// New loads the keys, watches their files, and begins to fetch the key sets with a URL, until Close.
func New(c Config) (*Verifier, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	v := &Verifier{config: c, parser: newParser(c), refused: map[refusal]*atomic.Uint64{}}
	for _, r := range refusals {
		v.refused[r] = new(atomic.Uint64)
	}
	if c.IssuerPattern != "" {
		v.issuer = regexp.MustCompile("^(?:" + c.IssuerPattern + ")$")
	}
	v.connection = &source{keys: &c.Keys}
	if v.subscription = v.connection; c.Subscription != nil {
		v.subscription = &source{keys: c.Subscription}
	}
	var files []string
	for _, s := range v.sources() {
		files = append(files, s.keys.files()...)
	}
	if len(files) > 0 {
		var err error
		// Before they are loaded: what changes meanwhile is loaded again.
		if v.watcher, err = watch.New(watch.Config{Name: "token keys", Files: files, Reload: v.Reload, Logger: c.Logger}); err != nil {
			return nil, err
		}
	}
	if err := v.load(); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	for _, s := range v.sources() {
		if s.keys.JWKSURL != "" {
			s.remote = newRemote(s.keys.JWKSURL, c.JWKS, c.Logger)
		}
	}
	return v, nil
}

func newParser(c Config) *jwt.Parser {
	options := []jwt.ParserOption{
		jwt.WithValidMethods(slices.Concat(hmacAlgs, rsaAlgs, []string{"ES256", "ES384", "ES512", "EdDSA"})), jwt.WithLeeway(c.Leeway),
	}
	if len(c.Audience) > 0 {
		options = append(options, jwt.WithAudience(c.Audience...))
	}
	if c.Issuer != "" {
		options = append(options, jwt.WithIssuer(c.Issuer))
	}
	return jwt.NewParser(options...)
}

// sources lists them, each once.
func (v *Verifier) sources() []*source {
	if v.subscription == v.connection {
		return []*source{v.connection}
	}
	return []*source{v.connection, v.subscription}
}

// Close ends the watching and the fetching.
func (v *Verifier) Close() (err error) {
	if v.watcher != nil {
		err = v.watcher.Close()
	}
	for _, s := range v.sources() {
		if s.remote != nil {
			s.remote.close()
		}
	}
	return err
}

// Reload reads the files again. What is wrong with one of them changes nothing and is an error.
func (v *Verifier) Reload() error {
	if err := v.load(); err != nil {
		v.failed.Add(1)
		v.config.Logger.Error("token keys not reloaded; the old ones stay in use", "error", err)
		return err
	}
	v.reloads.Add(1)
	return nil
}

func (v *Verifier) load() error {
	v.reloading.Lock()
	defer v.reloading.Unlock()
	var loaded []ring
	for _, s := range v.sources() {
		keys, err := s.keys.load()
		if err != nil {
			return err
		}
		loaded = append(loaded, keys)
	}
	for i, s := range v.sources() {
		s.local.Store(&loaded[i])
	}
	return nil
}

// Stats are a verifier's figures since New.
type Stats struct {
	Verified uint64            // tokens that were good
	Refused  map[string]uint64 // others, by reason
	Keys     int               // that are known
	Reloads  int64             // of the files
	Failed   int64             // reloads that changed nothing

	Fetches      int64     // of key sets, that brought keys
	FetchFailed  int64     // that did not
	TurnedAway   int64     // tokens with a key that was not known, and could not be asked for just then
	LatestFetch  time.Time // that brought keys; zero is none
	Fetching     bool      // there are key sets to fetch
	RevokedCount int       // revocations that are kept
}

// Stats returns the present figures.
func (v *Verifier) Stats() Stats {
	st := Stats{Verified: v.verified.Load(), Refused: map[string]uint64{}, Reloads: v.reloads.Load(), Failed: v.failed.Load()}
	for r, n := range v.refused {
		st.Refused[string(r)] = n.Load()
	}
	for _, s := range v.sources() {
		st.Keys += len(*s.local.Load())
		if r := s.remote; r != nil {
			st.Fetching = true
			st.Keys += len(*r.keys.Load())
			st.Fetches += r.fetches.Load()
			st.FetchFailed += r.failed.Load()
			st.TurnedAway += r.turned.Load()
			if at := r.latest.Load(); at > 0 && (st.LatestFetch.IsZero() || at < st.LatestFetch.Unix()) {
				st.LatestFetch = time.Unix(at, 0) // of several sets the oldest
			}
		}
	}
	st.RevokedCount = v.config.Revocations.Len()
	return st
}

// Verify checks a connection's token and returns who it names. It may wait for a key to be fetched, no longer than ctx.
// The error wraps ErrToken or ErrUnavailable.
func (v *Verifier) Verify(ctx context.Context, token string) (Identity, error) {
	c, err := v.claims(ctx, v.connection, token)
	if err != nil {
		return Identity{}, v.refuse(err)
	}
	i, err := c.identity()
	if err == nil && v.config.Revocations.Revoked(i.User, i.Mark) {
		err = refusedRevoked
	}
	if err != nil {
		return Identity{}, v.refuse(err)
	}
	v.verified.Add(1)
	return i, nil
}

// VerifySubscription is Verify for a channel's token.
func (v *Verifier) VerifySubscription(ctx context.Context, token string) (Subscription, error) {
	c, err := v.claims(ctx, v.subscription, token)
	if err != nil {
		return Subscription{}, v.refuse(err)
	}
	s, err := c.subscription()
	if err == nil && v.config.Revocations.Revoked(s.User, s.Mark) {
		err = refusedRevoked
	}
	if err != nil {
		return Subscription{}, v.refuse(err)
	}
	v.verified.Add(1)
	return s, nil
}

// refuse counts a refusal, and makes it what callers see.
func (v *Verifier) refuse(err error) error {
	r := refusedClaim
	errors.As(err, &r)
	v.refused[r].Add(1)
	return r.err()
}

// claims checks signature and times.
func (v *Verifier) claims(ctx context.Context, s *source, token string) (*claims, error) {
	if v.config.Insecure && !s.keys.Enabled() {
		return v.believe(token)
	}
	c, looked, err := v.parse(s, token)
	for last := false; looked != nil && !last; { // before anybody is sent away for good
		if last, err = s.remote.await(ctx, looked); err != nil {
			return nil, err
		}
		c, looked, err = v.parse(s, token)
	}
	if err != nil {
		return nil, err
	}
	if v.issuer != nil && !v.issuer.MatchString(c.Issuer) {
		return nil, refusedIssuer
	}
	return c, nil
}

// believe reads a token whose signature nobody can check.
func (v *Verifier) believe(token string) (*claims, error) {
	c := new(claims)
	_, _, err := v.parser.ParseUnverified(token, c)
	if err == nil {
		err = jwt.NewValidator(jwt.WithLeeway(v.config.Leeway)).Validate(c)
	}
	if err != nil {
		return nil, cause(err)
	}
	return c, nil
}

// parse verifies a token with the keys that are known now. If it fails and another fetch may bring its key, looked is
// the fetched set that it was not in.
func (v *Verifier) parse(s *source, token string) (c *claims, looked *ring, err error) {
	c = new(claims)
	_, err = v.parser.ParseWithClaims(token, c, func(t *jwt.Token) (any, error) {
		if _, found := t.Header["crit"]; found {
			return nil, refusedCritical // RFC 7515 §4.1.11: extensions that are not understood make a token invalid
		}
		id, _ := t.Header["kid"].(string)
		var set jwt.VerificationKeySet
		set.Keys, looked = s.find(id, t.Method.Alg(), time.Now())
		if len(set.Keys) == 0 {
			return nil, refusedKey
		}
		return set, nil
	})
	if err != nil {
		return nil, looked, cause(err)
	}
	return c, nil, nil
}

// find returns the keys that may verify a token. If its kid is not among those that were fetched, so that a newer set
// may have it, looked is that set.
func (s *source) find(id, alg string, now time.Time) (keys []jwt.VerificationKey, looked *ring) {
	keys, local := s.local.Load().find(nil, id, alg, now)
	if s.remote == nil || slices.Contains(hmacAlgs, alg) { // no set has secrets
		return keys, nil
	}
	fetched := s.remote.keys.Load()
	keys, named := fetched.find(keys, id, alg, now)
	if len(*fetched) == 0 || id != "" && !named && !local {
		return keys, fetched
	}
	return keys, nil
}

// cause names the fault in our own words, so that no byte of a token gets into a log or an answer. Expired is what is
// nothing else.
func cause(err error) error {
	var r refusal
	if errors.As(err, &r) {
		return r
	}
	for _, c := range []struct {
		is  error
		why refusal
	}{
		{jwt.ErrTokenSignatureInvalid, refusedSignature},
		{jwt.ErrTokenMalformed, refusedMalformed},
		{jwt.ErrTokenUnverifiable, refusedSignature},
		{jwt.ErrTokenInvalidAudience, refusedAudience},
		{jwt.ErrTokenInvalidIssuer, refusedIssuer},
		{jwt.ErrTokenRequiredClaimMissing, refusedClaim},
		{jwt.ErrTokenNotValidYet, refusedNotYet},
		{jwt.ErrTokenUsedBeforeIssued, refusedNotYet},
		{jwt.ErrTokenExpired, refusedExpired},
	} {
		if errors.Is(err, c.is) {
			return c.why
		}
	}
	return refusedClaim
}
