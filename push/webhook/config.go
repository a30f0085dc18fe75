package webhook

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/millpond/millpond/internal/files"
	"github.com/millpond/millpond/push/tracing"
	"github.com/millpond/millpond/push/webhook/sign"
)

// Config is one endpoint. Name and Endpoint must be set; the zero values of the others work.
type Config struct {
	// Name is what others call the endpoint, and the label of its metrics.
	Name string
	// Endpoint is an http or https URL.
	Endpoint string
	// Timeout bounds a question, from the connection to the answer's last byte, and also how long it waits for its
	// turn. Zero means 1 s.
	Timeout time.Duration

	// HTTPHeaders are the names of headers of the client's opening request that go along. A program can send any; only
	// what a proxy before the server sets itself can be believed.
	HTTPHeaders []string
	// EmulatedHeaders are the names of headers in a client's connect command that go along: browsers cannot send
	// others. A client can put anything there.
	EmulatedHeaders []string
	// StaticHeaders go along with every question. None of them may also come from the client.
	StaticHeaders map[string]string

	// BinaryEncoding sends the client's data in base64, as b64data, so that it may be any bytes.
	BinaryEncoding bool
	// IncludeConnectionMeta sends what the connection's token or the connect answer had as meta.
	IncludeConnectionMeta bool
	// Secret, if not empty, signs every question: see package sign.
	Secret []byte

	// MaxConcurrency bounds the questions that are under way, and the connections. Zero means 256.
	MaxConcurrency int
	// MaxWaiting bounds the questions that wait for their turn; more are refused at once. Zero means 4096.
	MaxWaiting int
	// MaxResponseBytes bounds an answer. Zero means 1 MiB.
	MaxResponseBytes int
	// Retries is how often a question is repeated of which nothing was sent, because no connection could be made.
	// Publish and rpc never are. Zero means 1, negative never.
	Retries int
	// BreakerFailures is after how many failures in a row (no connection, no answer in time, status 502, 503 or 504)
	// nothing is asked for BreakerTimeout; then one question tries again. Zero means 10 and 2 s, negative failures no
	// breaker.
	BreakerFailures int
	BreakerTimeout  time.Duration

	// Transforms say what a status other than 200 means to the client; without one it is an internal error.
	Transforms []Transform

	// CAFile has authorities in PEM, one of which must have signed the endpoint's certificate; empty means the
	// system's. CertFile and KeyFile are the certificate that is shown to it. They are read by New, and CertFile and
	// KeyFile again by each handshake.
	CAFile, CertFile, KeyFile string

	// Tracer has a span for each question; nil is none.
	Tracer *tracing.Tracer
	// Logger gets questions that were not answered, one in ten seconds for each cause. Nil means slog.Default().
	Logger *slog.Logger
}

// Transform says what one status means: an error or a disconnect.
type Transform struct {
	Status       int
	ToError      *Refusal
	ToDisconnect *Disconnect
}

var endpointName = regexp.MustCompile(`^[-a-zA-Z0-9_.]{2,}$`)

// Validate reports everything that is wrong with c, by the names that the file has.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(endpointName.MatchString(c.Name), "name: %q: a name has two letters, digits or any of -_. at least", c.Name)
	u, err := url.Parse(c.Endpoint)
	check(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", "endpoint: it is no http or https URL")
	check(err != nil || u.User == nil, "endpoint: no user and password here; use secret_file, or a header of http_static_headers that comes from a file")
	check(c.Timeout >= 0, "timeout: %v is negative", c.Timeout)
	check(c.BreakerTimeout >= 0, "breaker_timeout: %v is negative", c.BreakerTimeout)
	check(c.MaxConcurrency >= 0, "max_concurrency: %d is negative", c.MaxConcurrency)
	check(c.MaxWaiting >= 0, "max_waiting: %d is negative", c.MaxWaiting)
	check(c.MaxResponseBytes >= 0, "max_response_bytes: %d is negative", c.MaxResponseBytes)
	check((c.CertFile == "") == (c.KeyFile == ""), "tls_cert_file and tls_key_file: one is no use without the other")
	check(c.CAFile == "" && c.CertFile == "" || err == nil && u.Scheme == "https", "tls_ca_file, tls_cert_file: the endpoint is not https")
	if len(c.Secret) > 0 {
		if err := sign.CheckSecret(c.Secret); err != nil {
			errs = append(errs, fmt.Errorf("secret_file: %w", err))
		}
	}
	errs = append(errs, c.validateHeaders())
	for i, t := range c.Transforms {
		if err := t.validate(); err != nil {
			errs = append(errs, fmt.Errorf("http_status_to_code_transforms: number %d: %w", i+1, err))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) validateHeaders() error {
	_, err := checkHeaders("http_headers", c.HTTPHeaders)
	errs := []error{err}
	_, err = checkHeaders("emulated_headers", c.EmulatedHeaders)
	errs = append(errs, err)
	for name, value := range c.StaticHeaders {
		_, err = checkHeaders("http_static_headers", []string{name})
		errs = append(errs, err)
		if !isValue(value) {
			errs = append(errs, fmt.Errorf("http_static_headers: %s: the value has a control character", name))
		}
		if slices.ContainsFunc(slices.Concat(c.HTTPHeaders, c.EmulatedHeaders), func(other string) bool {
			return textproto.CanonicalMIMEHeaderKey(other) == textproto.CanonicalMIMEHeaderKey(name)
		}) {
			errs = append(errs, fmt.Errorf("http_static_headers: %s: clients could replace it, for it is in http_headers or emulated_headers too", name))
		}
	}
	return errors.Join(errs...)
}

func (t *Transform) validate() error {
	switch {
	case t.Status < 100 || t.Status > 599 || t.Status == 200:
		return fmt.Errorf("status_code: %d is not one that could be transformed", t.Status)
	case (t.ToError == nil) == (t.ToDisconnect == nil):
		return errors.New("it needs one of to_error and to_disconnect")
	}
	return errors.Join(t.ToError.check(), t.ToDisconnect.check())
}

func (c Config) withDefaults() Config {
	setDefault(&c.Timeout, time.Second)
	setDefault(&c.MaxConcurrency, 256)
	setDefault(&c.MaxWaiting, 4096)
	setDefault(&c.MaxResponseBytes, 1<<20)
	setDefault(&c.Retries, 1)
	setDefault(&c.BreakerFailures, 10)
	setDefault(&c.BreakerTimeout, 2*time.Second)
	setDefault(&c.Logger, slog.Default())
	return c
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// tls returns what the files say.
func (c *Config) tls() (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		var err error
		if out.RootCAs, err = files.Authorities(c.CAFile); err != nil {
			return nil, fmt.Errorf("tls_ca_file: %w", err)
		}
	}
	if c.CertFile == "" {
		return out, nil
	}
	load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := files.KeyPair(c.CertFile, c.KeyFile)
		return &pair, err
	}
	if _, err := load(nil); err != nil {
		return nil, fmt.Errorf("tls_cert_file: %w", err)
	}
	out.GetClientCertificate = load
	return out, nil
}
