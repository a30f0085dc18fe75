package deploy

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// probe is one of a container.
type probe struct {
	HTTPGet struct {
		Path string
		Port string
	} `yaml:"httpGet"`
	PeriodSeconds    int `yaml:"periodSeconds"`
	FailureThreshold int `yaml:"failureThreshold"`
}

type named struct {
	Name          string
	ContainerPort string `yaml:"containerPort"`
	TargetPort    string `yaml:"targetPort"`
	Secret        struct {
		DefaultMode int `yaml:"defaultMode"`
	}
}

// manifest is what the tests look at of all kinds together.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		MaxUnavailable           int    `yaml:"maxUnavailable"`
		PublishNotReadyAddresses bool   `yaml:"publishNotReadyAddresses"`
		ClusterIP                string `yaml:"clusterIP"`
		Ports                    []named
		VolumeClaimTemplates     []struct{ Metadata named } `yaml:"volumeClaimTemplates"`
		Template                 struct {
			Spec struct {
				TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
				SecurityContext               struct {
					RunAsUser int `yaml:"runAsUser"`
					FSGroup   int `yaml:"fsGroup"`
				} `yaml:"securityContext"`
				Containers []struct {
					Args           []string
					Ports          []named
					StartupProbe   probe   `yaml:"startupProbe"`
					LivenessProbe  probe   `yaml:"livenessProbe"`
					ReadinessProbe probe   `yaml:"readinessProbe"`
					VolumeMounts   []named `yaml:"volumeMounts"`
				}
				Volumes []named
			}
		}
	}
}

func names(list []named) (out []string) {
	for _, n := range list {
		out = append(out, n.Name)
	}
	slices.Sort(out)
	return out
}

// Of what Kubernetes would accept and an operator would miss: probes that ask the right thing, at the port that the program listens on, time for the
// drain, the image's user, secrets that are nobody else's, and volumes that are there.
func TestChartSays(t *testing.T) {
	for _, file := range []string{"helm/millpond/values.yaml", "helm/values/embedded.yaml", "helm/values/cluster.yaml", "helm/values/nats.yaml"} {
		t.Run(file, func(t *testing.T) {
			out, err := check(t, "chart", "helm/millpond", file)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			kinds := map[string]manifest{}
			for document := range strings.SplitSeq(out, "\n---\n") {
				var m manifest
				if err := yaml.Unmarshal([]byte(document), &m); err != nil && !errors.Is(err, io.EOF) { // comments alone
					t.Fatalf("%v\n%s", err, document)
				}
				kind := m.Kind
				switch {
				case kind == "Deployment" || kind == "StatefulSet":
					kind = "workload"
				case kind == "Service" && m.Spec.ClusterIP == "None":
					kind = "nodes"
				case kind == "Service":
					kind += " " + m.Metadata.Name
				}
				kinds[kind] = m
			}
			pod := kinds["workload"].Spec.Template.Spec
			if len(pod.Containers) != 1 {
				t.Fatalf("%d containers", len(pod.Containers))
			}
			c := pod.Containers[0]
			ports := map[string]string{}
			for _, p := range c.Ports {
				ports[p.Name] = p.ContainerPort
			}
			for _, want := range []string{"--listen=:" + ports["clients"], "--internal-listen=:" + ports["internal"], "--drain-grace=5s", "--drain-timeout=25s", "--drain-rate=5000"} {
				if !slices.Contains(c.Args, want) {
					t.Errorf("no %s in %q", want, c.Args)
				}
			}
			for name, p := range map[string]probe{"startup /healthz": c.StartupProbe, "liveness /healthz": c.LivenessProbe, "readiness /readyz": c.ReadinessProbe} {
				if _, path, _ := strings.Cut(name, " "); p.HTTPGet.Path != path || p.HTTPGet.Port != "internal" || p.PeriodSeconds < 1 || p.FailureThreshold < 1 {
					t.Errorf("the probe of %s: %+v", name, p)
				}
			}
			if s := c.StartupProbe; s.PeriodSeconds*s.FailureThreshold < 60 {
				t.Errorf("a start may take %d s alone", s.PeriodSeconds*s.FailureThreshold)
			}
			if pod.TerminationGracePeriodSeconds < 25+5+5 {
				t.Errorf("%d s are less than the drain takes", pod.TerminationGracePeriodSeconds)
			}
			if want := pod.SecurityContext; want.RunAsUser != 65532 || want.FSGroup != 65532 || !strings.Contains(readFile(t, "container/Containerfile"), "\nUSER 65532:65532\n") {
				t.Errorf("the user is not the image's: %+v", want)
			}
			volumes := slices.Clone(pod.Volumes)
			for _, claim := range kinds["workload"].Spec.VolumeClaimTemplates {
				volumes = append(volumes, claim.Metadata)
			}
			if got, want := names(c.VolumeMounts), names(volumes); !slices.Equal(got, want) {
				t.Errorf("mounted are %q, and there are %q", got, want)
			}
			for _, v := range pod.Volumes {
				if v.Name == "secrets" && (v.Secret.DefaultMode == 0 || v.Secret.DefaultMode&0o007 != 0) {
					t.Errorf("secrets have the mode %o", v.Secret.DefaultMode)
				}
			}
			for kind, m := range kinds {
				for _, p := range m.Spec.Ports {
					if ports[cmp.Or(p.TargetPort, p.Name)] == "" {
						t.Errorf("%s: the pod has no port for %+v", kind, p)
					}
				}
			}
			if nodes, there := kinds["nodes"]; there && !nodes.Spec.PublishNotReadyAddresses {
				t.Error("the cluster's servers would not find each other before they are ready")
			}
			if n := kinds["PodDisruptionBudget"].Spec.MaxUnavailable; n != 1 {
				t.Errorf("%d pods may be away at a time", n)
			}
		})
	}
}
