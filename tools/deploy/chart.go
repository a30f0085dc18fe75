package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// checkChart lints and renders the chart of a directory with each of the files of values, as a release millpond of the namespace push.
func checkChart(dir string, files []string) error {
	for _, file := range files {
		values, err := chartutil.ReadValuesFile(file)
		if err != nil {
			return err
		}
		for _, m := range lint.All(dir, values, "push", true).Messages {
			if m.Severity >= support.WarningSev {
				return fmt.Errorf("%s: %w", file, m)
			}
		}
		c, err := loader.Load(dir) // anew: rendering changes it
		if err != nil {
			return err
		}
		objects, err := render(c, values)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		fmt.Printf("---\n# %s\n%s", file, objects)
	}
	return nil
}

// render returns what the chart makes of values, of which all but ServiceMonitors is known to Kubernetes.
func render(c *chart.Chart, values chartutil.Values) (string, error) {
	options := chartutil.ReleaseOptions{Name: "millpond", Namespace: "push", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, values, options, chartutil.DefaultCapabilities)
	if err != nil {
		return "", err
	}
	texts, err := engine.Engine{Strict: true}.Render(c, all)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		reader := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(texts[name])))
		for {
			object, err := reader.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = decode(object)
			}
			if err != nil {
				return "", fmt.Errorf("%s: %w", name, err)
			}
			if len(bytes.TrimSpace(object)) > 0 {
				fmt.Fprintf(&out, "---\n%s", object)
			}
		}
	}
	return out.String(), nil
}

// decode reads an object as the API server does with strict validation of fields.
func decode(object []byte) error {
	var kind struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := yaml.Unmarshal(object, &kind); err != nil {
		return err
	}
	if kind.Kind == "" || kind.APIVersion == "monitoring.coreos.com/v1" && kind.Kind == "ServiceMonitor" {
		var value map[string]any
		return yaml.UnmarshalStrict(object, &value)
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, json.SerializerOptions{Yaml: true, Strict: true})
	_, _, err := decoder.Decode(object, nil, nil)
	if runtime.IsStrictDecodingError(err) {
		return fmt.Errorf("%s: %w", kind.Kind, err)
	}
	return err
}
