package push

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/millpond/millpond/internal/program"
)

// This file tests deploy/prometheus and deploy/grafana.

const (
	rulesFile     = "../deploy/prometheus/millpond.rules.yml"
	rulesTestFile = "../deploy/prometheus/millpond.rules.test.yml"
	configFile    = "../deploy/prometheus/prometheus.yml"
	dashboardFile = "../deploy/grafana/millpond.json"
)

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Each file for Prometheus in deploy is checked by its own tool; a file that nobody knows is a fault.
func TestPromtoolLikesTheFiles(t *testing.T) {
	promtool := program.Find(t, "promtool")
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	files, err := filepath.Glob("../deploy/*/*.yml")
	if err != nil || len(files) < 4 {
		t.Fatalf("files: %v, %v", files, err)
	}
	for _, path := range files {
		switch text := readText(t, path); {
		case strings.Contains(text, "\nscrape_configs:"):
			// Of the compose file the rules and the key are where it mounts them: beside it, and a secret.
			dir := t.TempDir()
			for name, content := range map[string]string{
				"api.keys": "key\n", "millpond.rules.yml": readText(t, rulesFile),
				"prometheus.yml": strings.ReplaceAll(text, "/run/secrets/", ""),
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			run("check", "config", filepath.Join(dir, "prometheus.yml"))
		case strings.Contains(text, "\ntests:"):
			run("test", "rules", path)
		case strings.Contains(text, "\ngroups:"):
			run("check", "rules", path)
		default:
			t.Errorf("%s: what is it?", path)
		}
	}
	run("check", "config", configFile) // with the rules where they are
	tests := readText(t, rulesTestFile)
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(readText(t, rulesFile), -1) {
		for _, is := range []string{" fires", " is quiet"} {
			if !strings.Contains(tests, "name: "+m[1]+is+"\n") {
				t.Errorf("there is no test that %s%s", m[1], is)
			}
		}
	}
}

// panel is one of a dashboard: what Grafana from 10 on reads of it.
type panel struct {
	ID         int
	Type       string
	Title      string
	Datasource struct{ Type, UID string }
	GridPos    struct{ H, W, X, Y int }
	Targets    []struct{ RefID, Expr string }
	Panels     []panel
}

type grafanaBoard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
	Panels []panel
}

func readDashboard(t *testing.T) (d grafanaBoard) {
	t.Helper()
	if err := json.Unmarshal([]byte(readText(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// No Grafana is at hand for tests, so this is what it would trip over.
func TestDashboardIsWellFormed(t *testing.T) {
	d := readDashboard(t)
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 36 {
		t.Errorf("uid %q, title %q, schemaVersion %d", d.UID, d.Title, d.SchemaVersion)
	}
	if v := d.Templating.List; len(v) != 2 || v[0].Type != "datasource" || v[0].Query != "prometheus" || v[1].Type != "query" {
		t.Errorf("variables %+v", v)
	}
	ids, taken := map[int]string{}, map[[2]int]string{}
	var rows []string
	for _, p := range d.Panels {
		if other, ok := ids[p.ID]; ok || p.ID < 1 {
			t.Errorf("%q has the id %d of %q", p.Title, p.ID, other)
		}
		ids[p.ID] = p.Title
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.Y < 0 || g.X+g.W > 24 {
			t.Errorf("%q is at %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("%q covers %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		switch p.Type {
		case "row":
			rows = append(rows, p.Title)
			if len(p.Targets)+len(p.Panels) > 0 {
				t.Errorf("the row %q has something of its own", p.Title)
			}
			continue
		case "timeseries", "stat", "table":
		default:
			t.Errorf("%q is a %q", p.Title, p.Type)
		}
		if p.Title == "" || len(p.Targets) == 0 || p.Datasource.Type != "prometheus" || p.Datasource.UID != "${datasource}" {
			t.Errorf("%+v", p)
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if refs[target.RefID] || target.RefID == "" || target.Expr == "" {
				t.Errorf("%q has the query %+v", p.Title, target)
			}
			refs[target.RefID] = true
		}
	}
	for _, want := range []string{"Overview", "Connections", "Memory", "Latency", "Loops and pool", "Fan-out", "Broker", "API", "Webhooks and events", "Errors"} {
		if !slices.Contains(rows, want) {
			t.Errorf("there is no row %q among %q", want, rows)
		}
	}
}

var (
	someMetric = regexp.MustCompile(`\b(?:millpond|process|go)_\w+`)
	recorded   = regexp.MustCompile(`\binstance:\w+:\w+`)
)

// Queries are about metrics that there are.
func TestQueriesAreAboutMetricsThatExist(t *testing.T) {
	s := everything(t)
	gathered, err := s.registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, m := range catalog {
		known[m.name], known[m.name+"_bucket"] = true, strings.HasSuffix(m.name, "_duration_seconds")
	}
	for _, f := range gathered {
		known[f.GetName()] = true
	}
	rules := readText(t, rulesFile)
	var texts []string
	for line := range strings.Lines(rules) {
		if _, expr, ok := strings.Cut(line, "expr: "); ok {
			texts = append(texts, expr)
		}
	}
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			texts = append(texts, target.Expr)
		}
	}
	for _, text := range texts {
		for _, rule := range recorded.FindAllString(text, -1) {
			if !strings.Contains(rules, "- record: "+rule+"\n") {
				t.Errorf("%s: nobody records %s", text, rule)
			}
		}
		for _, name := range someMetric.FindAllString(recorded.ReplaceAllString(text, ""), -1) {
			if !known[name] {
				t.Errorf("%s: there is no %s", text, name)
			}
		}
	}
}

// quietQueries are those that have nothing to tell under a small load on a server without a fault.
var quietQueries = []string{"ALERTS{", "millpond_centrifuge_disconnects_total", `state="open"`}

// runPrometheus runs Prometheus with the files of deploy/, against s, and returns how to ask its API.
func runPrometheus(t *testing.T, s *Server) func(path string, query url.Values) json.RawMessage {
	t.Helper()
	binary := program.Find(t, "prometheus")
	dir, address := t.TempDir(), freeAddress(t)
	config := strings.NewReplacer("127.0.0.1:8001", s.InternalAddr().String(), "15s", "1s").Replace(readText(t, configFile))
	for name, text := range map[string]string{"prometheus.yml": config, "millpond.rules.yml": readText(t, rulesFile)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.CommandContext(t.Context(), binary, "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address="+address, "--log.level=warn")
	c.Dir, c.Stderr = dir, t.Output()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	get := func(path string, query url.Values) json.RawMessage {
		status, body, err := tryGet("http://" + address + path + "?" + query.Encode())
		var answer struct {
			Status string
			Error  string
			Data   json.RawMessage
		}
		if err != nil || json.Unmarshal([]byte(body), &answer) != nil {
			return nil // it is not there yet
		}
		if status != 200 || answer.Status != "success" {
			t.Errorf("%s %v: %d %s", path, query, status, answer.Error)
		}
		return answer.Data
	}
	eventually(t, "Prometheus answers", func() bool { return get("/api/v1/status/buildinfo", nil) != nil })
	return get
}

// Prometheus itself reads the metrics of a server and evaluates every query of the dashboard and of the rules.
func TestQueriesInPrometheus(t *testing.T) {
	s := everything(t)
	load(t, s, 0)
	get := runPrometheus(t, s)
	results := func(expr string) int {
		var data struct{ Result []json.RawMessage }
		_ = json.Unmarshal(get("/api/v1/query", url.Values{"query": {expr}}), &data)
		return len(data.Result)
	}
	c := dial(t, s.ws("/push?channels=stays")) // memory for each connection wants one
	next(t, c)
	eventually(t, "three scrapes with the connection", func() bool {
		return results(`count_over_time(millpond_connection_memory_bytes[1m]) > 2`) > 0
	})
	variables := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*")
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			n := results(variables.Replace(target.Expr))
			isQuiet := slices.ContainsFunc(quietQueries, func(part string) bool { return strings.Contains(target.Expr, part) })
			if n == 0 != isQuiet {
				t.Errorf("%q has %d results for %s", p.Title, n, target.Expr)
			}
		}
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Type, Health, LastError, State string }
		}
	}
	eventually(t, "all rules are evaluated", func() bool {
		_ = json.Unmarshal(get("/api/v1/rules", nil), &rules)
		return len(rules.Groups) == 2 && !strings.Contains(fmt.Sprint(rules), "unknown")
	})
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" || r.LastError != "" || r.State == "firing" {
				t.Errorf("%+v", r)
			}
			if r.Type == "recording" && r.Name != "instance:millpond_recoveries_lost:ratio_rate10m" { // nobody recovers here
				eventually(t, r.Name+" has data", func() bool { return results(r.Name) > 0 })
			}
		}
	}
}

// tryGet is request for what may not be there.
func tryGet(url string) (status int, body string, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	return response.StatusCode, string(b), err
}
