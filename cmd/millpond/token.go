package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/millpond/millpond/push"
	"github.com/millpond/millpond/push/auth"
)

// tokenCommand makes tokens, and says what is in one.
type tokenCommand struct {
	Make  tokenMakeCommand  `cmd:"" default:"withargs" help:"Sign a token for a connection, or with --channel for a subscription, and print it."`
	Check tokenCheckCommand `cmd:"" help:"Read a token from the standard input, and say what it contains and whether it is good."`
}

// tokenMakeCommand signs one. Keys come from files alone: arguments can be seen by others on the host.
type tokenMakeCommand struct {
	HmacSecretFile string `aliases:"token-hmac-secret-file" help:"File with the secret." type:"existingfile" placeholder:"FILE"`
	PrivateKeyFile string `help:"File with a private key in PEM: RSA, EC or Ed25519." type:"existingfile" placeholder:"FILE"`
	Alg            string `help:"Algorithm; default: HS256 for a secret, RS256 for RSA, else that of the key."`
	Kid            string `help:"Name of the key, for the header."`

	User     string        `help:"The user; none is an anonymous one."`
	Channel  string        `help:"Make a token for a subscription to this channel." placeholder:"NAME"`
	Client   string        `help:"Only for the connection with this id; with --channel." placeholder:"ID"`
	TTL      time.Duration `name:"ttl" help:"How long the token is good; 0: for ever." default:"1h"`
	Expire   string        `help:"When it ends, instead: 2026-12-31T00:00:00Z, or in Unix seconds." placeholder:"TIME"`
	ExpireAt string        `help:"When what it gives ends, if that is another time; 0: never." placeholder:"TIME"`
	JTI      string        `name:"jti" help:"Its id, by which it can be revoked." placeholder:"ID"`
	Audience []string      `help:"Whom it is for." placeholder:"AUD"`
	Issuer   string        `help:"Whom it is from." placeholder:"ISS"`
	Info     string        `help:"What others may see of the user." placeholder:"JSON"`
	Meta     string        `help:"What only the backend may." placeholder:"JSON"`
	Channels []string      `help:"Channels that the client is subscribed to." placeholder:"NAME"`
	Subs     string        `help:"The same, with options: {\"NAME\":{\"data\":1}}." placeholder:"JSON"`
	Override string        `help:"Options of the channel for this subscription: {\"presence\":{\"value\":true}}; with --channel." placeholder:"JSON"`
}

// Run prints the token.
func (c *tokenMakeCommand) Run(s *streams) error {
	claims, err := c.claims(time.Now())
	if err != nil {
		return err
	}
	signer, err := auth.NewSigner(c.HmacSecretFile, c.PrivateKeyFile)
	if err != nil {
		return fmt.Errorf("hmac-secret-file, private-key-file: %w", err)
	}
	token, err := signer.Sign(c.Alg, c.Kid, claims)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out, token)
	return err
}

func (c *tokenMakeCommand) claims(now time.Time) (map[string]any, error) {
	claims := map[string]any{"sub": c.User, "iat": now.Unix()}
	var errs []error
	if c.Channel == "" && (c.Client != "" || c.Override != "") {
		errs = append(errs, errors.New("client, override: they need a --channel"))
	}
	if c.Channel != "" && (c.Meta != "" || c.Subs != "" || len(c.Channels) > 0) {
		errs = append(errs, errors.New("meta, subs, channels: they are not for a subscription"))
	}
	for name, value := range map[string]string{"channel": c.Channel, "client": c.Client, "jti": c.JTI, "iss": c.Issuer} {
		if value != "" {
			claims[name] = value
		}
	}
	for name, list := range map[string][]string{"aud": c.Audience, "channels": c.Channels} {
		if len(list) > 0 {
			claims[name] = list
		}
	}
	for name, text := range map[string]string{"info": c.Info, "meta": c.Meta, "subs": c.Subs, "override": c.Override} {
		switch {
		case text == "":
		case !json.Valid([]byte(text)):
			errs = append(errs, fmt.Errorf("%s: it is not JSON", name))
		default:
			claims[name] = json.RawMessage(text)
		}
	}
	if c.TTL > 0 {
		claims["exp"] = now.Add(c.TTL).Unix()
	}
	for _, f := range []struct{ flag, claim, text string }{{"expire", "exp", c.Expire}, {"expire-at", "expire_at", c.ExpireAt}} {
		if f.text == "" {
			continue
		}
		at, err := parseTime(f.text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.flag, err))
		}
		claims[f.claim] = at
	}
	return claims, errors.Join(errs...)
}

// parseTime returns Unix seconds.
func parseTime(text string) (int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a time such as 2026-12-31T00:00:00Z", text)
	}
	return at.Unix(), nil
}

// tokenCheckCommand says what a token contains. Its flags are those of serve, by which it judges.
type tokenCheckCommand struct {
	tokenFlags `embed:""`
}

// maxTokenBytes is more than any message may have.
const maxTokenBytes = 1 << 20

var errNotGood = errors.New("the token is not good")

// Run prints it, and fails if the token is not good.
func (c *tokenCheckCommand) Run(ctx context.Context, s *streams) error {
	return c.check(ctx, s, os.Stdin)
}

func (c *tokenCheckCommand) check(ctx context.Context, s *streams, in io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(in, maxTokenBytes))
	if err != nil {
		return err
	}
	token := strings.TrimSpace(string(b))
	header, claims, err := auth.Inspect(token)
	if err != nil {
		return err
	}
	if err := printClaims(s.out, header, claims, time.Now()); err != nil {
		return err
	}
	config, err := c.tokens()
	if err != nil {
		return err
	}
	if !config.Enabled() && !config.Subscription.Enabled() {
		_, err := fmt.Fprintln(s.out, "signature: not checked, without a key such as --token-hmac-secret-file")
		return err
	}
	err = judge(ctx, config, token, claims["channel"] != nil)
	if err != nil {
		fmt.Fprintln(s.out, "refused:", err)
		return errNotGood
	}
	_, err = fmt.Fprintln(s.out, "good")
	return err
}

// judge verifies the token as the server would.
func judge(ctx context.Context, config push.Tokens, token string, subscription bool) error {
	config.Logger = slog.New(slog.DiscardHandler)
	v, err := auth.New(config)
	if err != nil {
		return err
	}
	defer func() { _ = v.Close() }() // nothing was written
	if subscription {
		_, err = v.VerifySubscription(ctx, token)
	} else {
		_, err = v.Verify(ctx, token)
	}
	return err
}

// printClaims prints a line for each part, and next to times what they are for people.
func printClaims(w io.Writer, header, claims map[string]any, now time.Time) error {
	kind := "connection"
	if claims["channel"] != nil {
		kind = "subscription"
	}
	h, err := json.Marshal(header)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(claims, "", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "kind: %s\nheader: %s\nclaims: %s\n", kind, h, b)
	for _, name := range []string{"iat", "nbf", "exp", "expire_at"} {
		if at, ok := auth.Time(claims[name]); ok && !(name == "expire_at" && at.Unix() == 0) {
			when := fmt.Sprintf("in %v", at.Sub(now).Round(time.Second))
			if !at.After(now) {
				when = fmt.Sprintf("%v ago", now.Sub(at).Round(time.Second))
			}
			fmt.Fprintf(w, "%s: %s (%s)\n", name, at.UTC().Format(time.RFC3339), when)
		}
	}
	return nil
}
