package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millpond/millpond/push"
)

// Every option of the file reaches the configuration, and what is wrong is said by its key.
func TestWebhooksFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret := write("secret", strings.Repeat("s", 32)+"\n")
	key := write("key", "Bearer 1\n")
	d, err := newDocument("", []byte(`
connect_webhook: auth
refresh_webhook: auth
rpc_webhook: rpc
rpc_namespaces:
  - {name: shop, webhook: rpc}
channels: {subscribe_webhook: auth, publish_webhook: rpc, sub_refresh_webhook: auth}
webhooks:
  - name: auth
    endpoint: http://127.0.0.1:1/auth
    timeout: 2s
    http_headers: [Cookie]
    emulated_headers: [Authorization]
    http_static_headers: {X-From: millpond}
    http_static_header_files: {X-Key: `+key+`}
    binary_encoding: true
    include_connection_meta: true
    secret_file: `+secret+`
    max_concurrency: 3
    max_waiting: 4
    max_response_bytes: 5
    retries: 0
    breaker_failures: 6
    breaker_timeout: 7s
    http_status_to_code_transforms:
      - {status_code: 403, to_error: {code: 403, message: no, temporary: true}}
      - {status_code: 404, to_disconnect: {code: 4904, reason: gone}}
  - {name: rpc, endpoint: "https://backend.example.com/", breaker_failures: 0, tls_ca_file: ca, tls_cert_file: cert, tls_key_file: key}
`))
	if err != nil {
		t.Fatal(err)
	}
	endpoints, namespaces, err := loadWebhooks(d.values)
	if err != nil {
		t.Fatal(err)
	}
	want := []push.Webhook{
		{
			Name: "auth", Endpoint: "http://127.0.0.1:1/auth", Timeout: 2e9, HTTPHeaders: []string{"Cookie"}, EmulatedHeaders: []string{"Authorization"},
			StaticHeaders: map[string]string{"X-From": "millpond", "X-Key": "Bearer 1"}, BinaryEncoding: true, IncludeConnectionMeta: true,
			Secret: []byte(strings.Repeat("s", 32)), MaxConcurrency: 3, MaxWaiting: 4, MaxResponseBytes: 5, Retries: -1, BreakerFailures: 6, BreakerTimeout: 7e9,
			Transforms: []push.WebhookTransform{
				{Status: 403, ToError: &push.WebhookRefusal{Code: 403, Message: "no", Temporary: true}},
				{Status: 404, ToDisconnect: &push.WebhookDisconnect{Code: 4904, Reason: "gone"}},
			},
		},
		{
			Name: "rpc", Endpoint: "https://backend.example.com/", StaticHeaders: map[string]string{}, BreakerFailures: -1,
			CAFile: "ca", CertFile: "cert", KeyFile: "key",
		},
	}
	if diff := cmp.Diff(want, endpoints); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]push.RPCNamespace{{Name: "shop", Webhook: "rpc"}}, namespaces); diff != "" {
		t.Error(diff)
	}
	const one = "webhooks:\n  - {name: auth, endpoint: 'http://127.0.0.1:1'"
	for _, tt := range []struct {
		name, file string
		code       int
		want       string
	}{
		{"no token is needed", one + "}\nconnect_webhook: auth\n", 0, "stopped"},
		{"a name that is near", one + "}\nconnect_webhook: aut\n", 1, `connect-webhook: there is no webhook "aut", did you mean "auth"?`},
		{"none at all", "dev: true\nrpc_webhook: rpc\n", 1, `rpc-webhook: there is no webhook "rpc", for there are none`},
		{"of a namespace", "dev: true\n" + one + "}\nnamespaces:\n  - {name: news, publish_webhook: author}\n", 1, `namespaces: "news": publish_webhook: there is no webhook "author", did you mean "auth"?`},
		{"of methods", "dev: true\n" + one + "}\nrpc_namespaces:\n  - {name: shop, webhook: aut}\n", 1, `rpc_namespaces: "shop": webhook: there is no`},
		{"methods without a webhook", "dev: true\n" + one + "}\nrpc_namespaces:\n  - {name: shop}\n", 1, `rpc_namespaces: "shop": it needs`},
		{"twice", "dev: true\n" + one + "}\n  - {name: auth, endpoint: 'http://127.0.0.1:1'}\n", 1, `webhooks: "auth": it is there twice`},
		{"an option that there is not", "dev: true\n" + one + ", timeot: 1s}\n", 2, "timeot"},
		{"a key that is near", "dev: true\nwebhook: []\n", 2, "webhook, did you mean webhooks?"},
		{"a header that is the connection's", "dev: true\n" + one + ", http_headers: [upgrade]}\n", 1, `webhooks: "auth": http_headers: Upgrade`},
		{"a secret that is not there", "dev: true\n" + one + ", secret_file: missing}\n", 2, `webhooks[0].secret_file:`},
		{"a short secret", "dev: true\n" + one + ", secret_file: " + key + "}\n", 1, `webhooks: "auth": secret_file: the secret has`},
		{"a header's file that is not there", "dev: true\n" + one + ", http_static_header_files: {X-Key: missing}}\n", 1, `http_static_header_files: X-Key`},
		{"a header twice", "dev: true\n" + one + ", http_static_headers: {X-Key: a}, http_static_header_files: {X-Key: " + key + "}}\n", 1, "X-Key: it is in http_static_headers too"},
	} {
		code, _, stderr := runCommand("serve", "--listen=127.0.0.1:0", "--internal-listen=127.0.0.1:0", "--config", write("c.yaml", tt.file))
		if code != tt.code || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: %d, want %d and %s:\n%s", tt.name, code, tt.code, tt.want, stderr)
		}
	}
}
