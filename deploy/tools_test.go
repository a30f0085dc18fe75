package deploy

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millpond/millpond/internal/program"
)

// check runs tools/deploy.
func check(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	b, err := exec.CommandContext(t.Context(), program.Find(t, "../bin/tools/deploy"), args...).CombinedOutput()
	return string(b), err
}

// The libraries of those who read the files like them, and do not like what is wrong with them.
func TestToolsLikeTheFiles(t *testing.T) {
	const chart = "helm/millpond"
	for _, tt := range []struct {
		args  []string
		wrong []string // replaced in the last file, what then is wrong, and what is said of it
	}{
		{[]string{"compose", "compose/single.yaml"}, []string{"  millpond:\n    extends", "  millpond:\n    imaeg: x\n    extends", "imaeg"}},
		{[]string{"compose", "compose/cluster.yaml"}, []string{"\n  cluster.credentials: {", "\n  credentials: {", "cluster.credentials"}},
		{[]string{"compose", "compose/nats.yaml"}, []string{"\n  nats: {}\n", "\n", "nats"}},
		{[]string{"envoy", "envoy/envoy.yaml"}, []string{"stream_idle_timeout: 75s", "stream_idle_timeout: 75", "stream_idle_timeout"}},
		{[]string{"envoy", "envoy/envoy.yaml"}, []string{"connect_timeout: 2s", "connect_timeout: -2s", "ConnectTimeout"}},
		{[]string{"chart", chart, chart + "/values.yaml"}, []string{"kind: memory", "kind: memory2", "kind"}},
		{[]string{"chart", chart, "helm/values/embedded.yaml"}, []string{"broker: {", "replicas: 2\nbroker: {", "for one pod"}},
		{[]string{"chart", chart, "helm/values/cluster.yaml"}, []string{"replicas: 3", "replicas: 2", "replicas of 3 or 5"}},
		{[]string{"chart", chart, "helm/values/nats.yaml"}, []string{"urls: [nats://nats.nats:4222]", "urls: []", "broker.urls"}},
		{[]string{"chart", chart, "helm/values/nats.yaml"}, []string{"ipBlock: {cidr", "ipBlock: {cird", "cird"}}, // by Kubernetes's types
	} {
		file := tt.args[len(tt.args)-1]
		t.Run(file+" "+tt.wrong[2], func(t *testing.T) {
			if out, err := check(t, tt.args...); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			wrong := replace(t, readFile(t, file), tt.wrong[0], tt.wrong[1])
			dir := t.TempDir()
			if tt.args[0] == "compose" {
				writeFile(t, filepath.Join(dir, "common.yaml"), strings.ReplaceAll(readFile(t, "compose/common.yaml"), "- ./", "- "+absolute(t, "compose")+"/"))
			}
			path := writeFile(t, filepath.Join(dir, "wrong.yaml"), wrong)
			if out, err := check(t, append(tt.args[:len(tt.args)-1:len(tt.args)-1], path)...); err == nil || !strings.Contains(out, tt.wrong[2]) {
				t.Errorf("what is wrong is not found: %v\n%.2000s", err, out)
			}
		})
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// The chart's pods are what Kubernetes's restricted profile allows, end later than the drain, and have the flags of their broker.
func TestChart(t *testing.T) {
	const restricted = "runAsNonRoot: true\nallowPrivilegeEscalation: false\nreadOnlyRootFilesystem: true\ncapabilities: {drop: [ALL]}\n" +
		"seccompProfile: {type: RuntimeDefault}\nautomountServiceAccountToken: false\nterminationGracePeriodSeconds: 45\npath: /readyz\nkind: PodDisruptionBudget\nkind: NetworkPolicy\nsecretName: millpond"
	for file, want := range map[string]string{
		"helm/millpond/values.yaml": "kind: Deployment\nreplicas: 1",
		"helm/values/embedded.yaml": "kind: StatefulSet\n- --nats-embedded\n- --data-dir=/var/lib/millpond\nname: orders",
		"helm/values/cluster.yaml": "kind: StatefulSet\nreplicas: 3\nkind: ServiceMonitor\n" +
			"- --cluster-routes=millpond-0.millpond-nodes:6222,millpond-1.millpond-nodes:6222,millpond-2.millpond-nodes:6222",
		"helm/values/nats.yaml": "kind: Deployment\nkind: HorizontalPodAutoscaler\nmetric: {name: millpond_connections}\n" +
			"- --nats-url=nats://nats.nats:4222\n- --nats-credentials-file=/run/secrets/millpond/nats-credentials-file",
	} {
		out, err := check(t, "chart", "helm/millpond", file)
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		for line := range strings.Lines(restricted + "\n" + want) {
			if !strings.Contains(out, strings.TrimSpace(line)) {
				t.Errorf("%s makes no %s", file, line)
			}
		}
		// The program knows each flag, and ends at the one that it does not.
		args, dir := []string{"serve"}, etcMillpond(t)
		for line := range strings.Lines(out) {
			if flag, ok := strings.CutPrefix(strings.TrimSpace(line), "- --"); ok {
				flag = strings.NewReplacer("/etc/millpond", dir, "/run/secrets/millpond", dir).Replace(flag)
				args = append(args, "--"+flag)
				if name, path, ok := strings.Cut(flag, "="); ok && strings.HasPrefix(path, dir) && name != "config" {
					writeFile(t, path, strings.Repeat("s", 44))
				}
			}
		}
		said, err := exec.CommandContext(t.Context(), millpond(t), append(args, "--no-such-flag")...).CombinedOutput()
		if err == nil || !strings.Contains(string(said), "no-such-flag") {
			t.Errorf("%s: millpond %v: %v, %s", file, args, err, said)
		}
	}
}
