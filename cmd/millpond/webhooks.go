package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/millpond/millpond/push"
)

// webhookOptions are a push.Webhook as the file has it.
type webhookOptions struct {
	Name                  string            `yaml:"name"`
	Endpoint              string            `yaml:"endpoint"`
	Timeout               time.Duration     `yaml:"timeout"`
	HTTPHeaders           []string          `yaml:"http_headers"`
	EmulatedHeaders       []string          `yaml:"emulated_headers"`
	HTTPStaticHeaders     map[string]string `yaml:"http_static_headers"`
	HTTPStaticHeaderFiles map[string]string `yaml:"http_static_header_files"`
	BinaryEncoding        bool              `yaml:"binary_encoding"`
	IncludeConnectionMeta bool              `yaml:"include_connection_meta"`
	SecretFile            string            `yaml:"secret_file"`
	MaxConcurrency        int               `yaml:"max_concurrency"`
	MaxWaiting            int               `yaml:"max_waiting"`
	MaxResponseBytes      int               `yaml:"max_response_bytes"`
	Retries               *int              `yaml:"retries"`
	BreakerFailures       *int              `yaml:"breaker_failures"`
	BreakerTimeout        time.Duration     `yaml:"breaker_timeout"`
	Transforms            []transform       `yaml:"http_status_to_code_transforms"`
	TLSCAFile             string            `yaml:"tls_ca_file"`
	TLSCertFile           string            `yaml:"tls_cert_file"`
	TLSKeyFile            string            `yaml:"tls_key_file"`
}

// transform says what a status means to the client.
type transform struct {
	StatusCode int `yaml:"status_code"`
	ToError    *struct {
		Code      uint32 `yaml:"code"`
		Message   string `yaml:"message"`
		Temporary bool   `yaml:"temporary"`
	} `yaml:"to_error"`
	ToDisconnect *struct {
		Code   uint16 `yaml:"code"`
		Reason string `yaml:"reason"`
	} `yaml:"to_disconnect"`
}

type rpcNamespace struct {
	Name    string `yaml:"name"`
	Webhook string `yaml:"webhook"`
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

// loadWebhooks reads their keys from the file at path; no path, no webhooks.
func loadWebhooks(path string) (endpoints []push.Webhook, namespaces []push.RPCNamespace, err error) {
	f, err := readFile(path)
	if err != nil {
		return nil, nil, err
	}
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
