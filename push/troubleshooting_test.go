package push

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/session"
)

// Nobody has these in a source: they are what a client sees that got no close frame, or sent its own.
var codesOfOthers = []string{"1000", "1005", "1006"}

// codesInSources are the codes of close frames and of subscriptions' ends, with the place where each was found.
func codesInSources(t *testing.T) map[string]string {
	t.Helper()
	source := func(glob string) string {
		paths, err := filepath.Glob(glob)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v", glob, err)
		}
		var all strings.Builder
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(b)
		}
		return all.String()
	}
	names := map[string]string{} // of package codec
	for _, m := range regexp.MustCompile(`(Status\w+) +CloseCode = (\d+)`).FindAllStringSubmatch(source("../codec/close.go"), -1) {
		names[m[1]] = m[2]
	}
	codes := map[string]string{}
	for glob, pattern := range map[string]string{
		"protocol/centrifuge/codes.go": `Disconnect\{Code: (\d+)`,
		"protocol/centrifuge/c*.go":    `unsubscription\{(\d+)`,
		"protocol/plain/subscribe.go":  `ending\{(\d+)`,
		"protocol/plain/client.go":     `close\w+ +uint16 = (\d+)`,
		"dashboard/*.go":               `(?:CloseCode\(|CloseCode = )(\d+)`,
		"../session/*.go":              `codec\.(Status\w+)`,
		"../codec/fault.go":            `row\(.*(Status\w+)`,
	} {
		found := regexp.MustCompile(pattern).FindAllStringSubmatch(source(glob), -1)
		if len(found) == 0 {
			t.Errorf("%s has no %s any more", glob, pattern)
		}
		for _, m := range found {
			code := m[1]
			if number, ok := names[code]; ok {
				code = number
			}
			codes[code] = glob
		}
	}
	return codes
}

// docs/troubleshooting.md has each code and each reason that there is, and none that there is not.
func TestCodesAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	_, tables, _ := strings.Cut(page, "\n## The codes\n")
	codes := codesInSources(t)
	for n := uint32(1); n < 1000; n++ {
		if e := hub.ErrorOf(n); e.Code == n {
			codes[fmt.Sprint(n)] = "hub"
			if !strings.Contains(tables, fmt.Sprintf("| %d | %s |", n, e.Message)) {
				t.Errorf("no row for error %d, %s", n, e.Message)
			}
		}
	}
	rows := regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(tables, -1)
	for _, row := range rows {
		if codes[row[1]] == "" && !slices.Contains(codesOfOthers, row[1]) {
			t.Errorf("there is no code %s", row[1])
		}
	}
	for code, where := range codes {
		if !slices.ContainsFunc(rows, func(row []string) bool { return row[1] == code }) {
			t.Errorf("no row for %s of %s", code, where)
		}
	}
	for _, r := range session.Reasons() {
		if !strings.Contains(tables, "`"+r.String()+"`") {
			t.Errorf("no word about the reason %s", r)
		}
	}
}

// The page has a word about each value of those labels by which one looks for a cause.
func TestCausesAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	_, families := series(t, startServer(t, Config{TokenSecret: secret, APIKeys: []string{"key"}}))
	for _, name := range []string{"closed_total", "connections_refused_total", "accept_pauses_total", "tokens_total", "recoveries_total"} {
		f := families["millpond_"+name]
		if len(f.GetMetric()) < 2 {
			t.Fatalf("millpond_%s has %d series", name, len(f.GetMetric()))
		}
		for _, m := range f.GetMetric() {
			value := m.GetLabel()[0].GetValue()
			if value != "good" && !strings.Contains(string(b), "`"+value+"`") && !strings.Contains(string(b), `="`+value+`"`) {
				t.Errorf("no word about %q of millpond_%s", value, name)
			}
		}
	}
}
