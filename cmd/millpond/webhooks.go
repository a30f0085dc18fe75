package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/millpond/millpond/push"
)

// webhookOptions are a push.Webhook as the file has it.
type webhookOptions struct {
	Name                  string            `yaml:"name" help:"What the flags and options call it."`
	Endpoint              string            `yaml:"endpoint" help:"URL that is asked by POST."`
	Timeout               time.Duration     `yaml:"timeout" help:"Time from the connection to the last byte of the answer." default:"1s"`
	HTTPHeaders           []string          `yaml:"http_headers" help:"Headers of the client's opening request that go along."`
	EmulatedHeaders       []string          `yaml:"emulated_headers" help:"Headers that the client may name in its connect command."`
	HTTPStaticHeaders     map[string]string `yaml:"http_static_headers" help:"Headers of your own, with their values."`
	HTTPStaticHeaderFiles map[string]string `yaml:"http_static_header_files" help:"Headers of your own, with files of their values."`
	BinaryEncoding        bool              `yaml:"binary_encoding" help:"The client's data is sent as base64."`
	IncludeConnectionMeta bool              `yaml:"include_connection_meta" help:"What the backend said of the connection goes along (meta)."`
	SecretFile            string            `yaml:"secret_file" help:"File with the secret that signs questions."`
	MaxConcurrency        int               `yaml:"max_concurrency" help:"Questions under way at most." default:"256"`
	MaxWaiting            int               `yaml:"max_waiting" help:"Questions that wait for their turn at most." default:"4096"`
	MaxResponseBytes      int               `yaml:"max_response_bytes" help:"Bytes of an answer." default:"1048576"`
	Retries               *int              `yaml:"retries" help:"Times that a question is asked again of which nothing was sent; 0: never." default:"1"`
	BreakerFailures       *int              `yaml:"breaker_failures" help:"Failures in a row after which nothing is asked for a time; 0: never." default:"10"`
	BreakerTimeout        time.Duration     `yaml:"breaker_timeout" help:"That time." default:"2s"`
	Transforms            []transform       `yaml:"http_status_to_code_transforms" help:"What statuses other than 200 mean to the client."`
	TLSCAFile             string            `yaml:"tls_ca_file" help:"File with the authorities of the endpoint's certificate, in PEM; default: the system's."`
	TLSCertFile           string            `yaml:"tls_cert_file" help:"File with a certificate for the endpoint, in PEM."`
	TLSKeyFile            string            `yaml:"tls_key_file" help:"File with its key."`
}

// transform says what a status means to the client.
type transform struct {
	StatusCode int `yaml:"status_code" help:"The HTTP status."`
	ToError    *struct {
		Code      uint32 `yaml:"code" help:"Its code."`
		Message   string `yaml:"message" help:"Its text."`
		Temporary bool   `yaml:"temporary" help:"The client may try again."`
	} `yaml:"to_error" help:"The client gets this error."`
	ToDisconnect *struct {
		Code   uint16 `yaml:"code" help:"Its code."`
		Reason string `yaml:"reason" help:"Its text."`
	} `yaml:"to_disconnect" help:"The client is disconnected."`
}

type rpcNamespace struct {
	Name    string `yaml:"name" help:"What stands before the colon of its methods."`
	Webhook string `yaml:"webhook" help:"The webhook that is asked."`
}

// noneIfZero makes a number of which the file has 0 one that says none, for there 0 is the default.
func noneIfZero(n *int) int {
	switch {
	case n == nil:
		return 0
	case *n == 0:
		return -1
	}
	return *n
}

// webhook converts o, and reads its files.
func (o *webhookOptions) webhook() (push.Webhook, error) {
	out := push.Webhook{
		Name: o.Name, Endpoint: o.Endpoint, Timeout: o.Timeout, HTTPHeaders: o.HTTPHeaders, EmulatedHeaders: o.EmulatedHeaders,
		StaticHeaders: map[string]string{}, BinaryEncoding: o.BinaryEncoding, IncludeConnectionMeta: o.IncludeConnectionMeta,
		MaxConcurrency: o.MaxConcurrency, MaxWaiting: o.MaxWaiting, MaxResponseBytes: o.MaxResponseBytes, Retries: noneIfZero(o.Retries),
		BreakerFailures: noneIfZero(o.BreakerFailures), BreakerTimeout: o.BreakerTimeout,
		CAFile: o.TLSCAFile, CertFile: o.TLSCertFile, KeyFile: o.TLSKeyFile,
	}
	var errs []error
	var err error
	if out.Secret, err = readSecret(o.SecretFile); err != nil {
		errs = append(errs, fmt.Errorf("secret_file: %w", err))
	}
	for name, value := range o.HTTPStaticHeaders {
		out.StaticHeaders[name] = value
	}
	for name, path := range o.HTTPStaticHeaderFiles {
		value, err := readSecret(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("http_static_header_files: %s: %w", name, err))
		}
		if _, twice := out.StaticHeaders[name]; twice {
			errs = append(errs, fmt.Errorf("http_static_header_files: %s: it is in http_static_headers too", name))
		}
		out.StaticHeaders[name] = string(value)
	}
	for _, t := range o.Transforms {
		to := push.WebhookTransform{Status: t.StatusCode}
		if t.ToError != nil {
			to.ToError = (*push.WebhookRefusal)(t.ToError)
		}
		if t.ToDisconnect != nil {
			to.ToDisconnect = (*push.WebhookDisconnect)(t.ToDisconnect)
		}
		out.Transforms = append(out.Transforms, to)
	}
	return out, errors.Join(errs...)
}

// loadWebhooks makes webhooks of their keys.
func loadWebhooks(f file) (endpoints []push.Webhook, namespaces []push.RPCNamespace, err error) {
	var list []webhookOptions
	var rpc []rpcNamespace
	err = errors.Join(strictly(f, "webhooks", &list), strictly(f, "rpc_namespaces", &rpc))
	for i := range list {
		w, wrong := list[i].webhook()
		if wrong != nil {
			err = errors.Join(err, fmt.Errorf("config: webhooks: %q: %w", list[i].Name, wrong))
		}
		endpoints = append(endpoints, w)
	}
	for _, n := range rpc {
		namespaces = append(namespaces, push.RPCNamespace(n))
	}
	return endpoints, namespaces, err
}
