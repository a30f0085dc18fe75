package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/millpond/millpond/push"
)

// keyFlags say where the keys of one kind of tokens are.
type keyFlags struct {
	HmacSecretFile         string   `reload:"content" help:"File with the secret that signs the clients' tokens (HS256, HS384, HS512)." type:"existingfile" placeholder:"FILE"`
	HmacPreviousSecretFile string   `reload:"content" help:"File with the secret before." type:"existingfile" placeholder:"FILE"`
	HmacPreviousUntil      string   `help:"Until when that one is good, such as 2026-12-31T00:00:00Z." placeholder:"TIME"`
	PublicKeyFile          []string `reload:"content" help:"FILE with public keys or certificates in PEM (RSA, EC, Ed25519), or KID=FILE; may be repeated." sep:"none" placeholder:"FILE"`
	JWKSFile               string   `reload:"content" name:"jwks-file" help:"File with a JSON Web Key Set." type:"existingfile" placeholder:"FILE"`
	JWKSURL                string   `name:"jwks-url" help:"Where a JSON Web Key Set is fetched: https, or http on this host." placeholder:"URL"`
}

// tokenFlags say which tokens are good.
type tokenFlags struct {
	Tokens             keyFlags      `embed:"" prefix:"token-"`
	SubscriptionTokens keyFlags      `embed:"" prefix:"subscription-token-"`
	TokenAudience      []string      `help:"Audience that tokens must be for (aud); of several one of them." placeholder:"AUD"`
	TokenIssuer        string        `help:"Issuer that tokens must be from (iss)." placeholder:"ISS"`
	TokenIssuerRegex   string        `help:"Regular expression that the issuer must match as a whole." placeholder:"REGEX"`
	TokenLeeway        time.Duration `range:"0:" help:"By how much the clock of those who sign tokens may differ."`
	TokenJWKSRefresh   time.Duration `range:"0:" name:"token-jwks-refresh" help:"Time after which key sets are fetched again." default:"1h"`
	TokenJWKSInterval  time.Duration `range:"0:" name:"token-jwks-interval" help:"Least time between two fetches of a key set, however many tokens have a kid that is not known." default:"10s"`
	TokenJWKSTimeout   time.Duration `range:"0:" name:"token-jwks-timeout" help:"Time that a fetch of a key set may take." default:"5s"`
	TokenJWKSBytes     int64         `range:"0:" name:"token-jwks-bytes" help:"Bytes of a key set." default:"1048576"`
	TokenJWKSWaiting   int           `range:"0:" name:"token-jwks-waiting" help:"Clients that wait for a fetch of a key set; more are told to try again later." default:"64"`
}

func (f *keyFlags) keys(prefix string) (push.TokenKeys, error) {
	k := push.TokenKeys{
		SecretFile: f.HmacSecretFile, PreviousSecretFile: f.HmacPreviousSecretFile, PublicKeyFiles: f.PublicKeyFile,
		JWKSFile: f.JWKSFile, JWKSURL: f.JWKSURL,
	}
	if f.HmacPreviousUntil != "" {
		var err error
		if k.PreviousUntil, err = time.Parse(time.RFC3339, f.HmacPreviousUntil); err != nil {
			return k, fmt.Errorf("%shmac-previous-until: %q is not a time such as 2026-12-31T00:00:00Z", prefix, f.HmacPreviousUntil)
		}
	}
	return k, nil
}

func (c *tokenFlags) tokens() (push.Tokens, error) {
	out := push.Tokens{
		Audience: c.TokenAudience, Issuer: c.TokenIssuer, IssuerPattern: c.TokenIssuerRegex, Leeway: c.TokenLeeway,
		JWKS: push.TokenJWKS{
			Refresh: c.TokenJWKSRefresh, MinInterval: c.TokenJWKSInterval, Timeout: c.TokenJWKSTimeout, MaxBytes: c.TokenJWKSBytes,
			MaxWaiting: c.TokenJWKSWaiting,
		},
	}
	keys, err := c.Tokens.keys("token-")
	own, err2 := c.SubscriptionTokens.keys("subscription-token-")
	if out.Keys = keys; own.Enabled() {
		out.Subscription = &own
	}
	return out, errors.Join(err, err2)
}
