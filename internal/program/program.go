// Package program finds the programs that tests start, as users of the docs would.
package program

import (
	"os"
	"os/exec"
	"testing"
)

// Find returns the path of a program, looking in /usr/sbin too, which users do not have in their PATH.
// Without it the test is skipped; under CI=true, where make setup has installed it, it fails.
func Find(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if sbin, e := exec.LookPath("/usr/sbin/" + name); e == nil {
			return sbin
		}
	}
	need(t, err)
	return path
}

// File says whether a file is there that make setup fetches, as Find does with programs.
func File(t testing.TB, path string) {
	t.Helper()
	_, err := os.Stat(path)
	need(t, err)
}

func need(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("%v: make setup", err)
	default:
		t.Skipf("%v: make setup", err)
	}
}
