package main

import (
	"os"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"sigs.k8s.io/yaml"

	// The types that the file names in its typed_config.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// checkEnvoy decodes a bootstrap, and all that is typed in it, with no unknown field, and checks the values.
func checkEnvoy(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if b, err = yaml.YAMLToJSONStrict(b); err != nil {
		return err
	}
	var config bootstrap.Bootstrap
	if err := protojson.Unmarshal(b, &config); err != nil {
		return err
	}
	return config.ValidateAll()
}
