package licenses

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	root = "../.."
	file = root + "/THIRD_PARTY_LICENSES.txt"
)

// component is something of others that the program has in it.
type component struct {
	name, version, dir string
}

// kinds are the licences that the program may be linked with, by words that only they have; all words of one must be there.
var kinds = []struct {
	name  string
	words []string
}{
	{"Apache-2.0", []string{"Apache License", "Version 2.0, January 2004"}},
	{"MIT", []string{"Permission is hereby granted, free of charge, to any person obtaining a copy", "The above copyright notice and this permission notice shall be included"}},
	{"ISC", []string{"Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee"}},
	{"ISC", []string{"Permission to use, copy, modify, and distribute this software for any purpose with or without fee"}},
	{"BSD-3-Clause", []string{"Redistributions in binary form must reproduce", "used to endorse or promote products"}},
	{"BSD-2-Clause", []string{"Redistributions of source code must retain", "Redistributions in binary form must reproduce"}},
	{"Unlicense", []string{"This is free and unencumbered software released into the public domain"}},
}

var space = regexp.MustCompile(`[\s*#/>]+`)

// kind is the name of the licence, or empty for none that is known.
func kind(text string) string {
	flat := strings.ToLower(space.ReplaceAllString(text, " "))
	for _, k := range kinds {
		if !slices.ContainsFunc(k.words, func(words string) bool { return !strings.Contains(flat, strings.ToLower(words)) }) {
			return k.name
		}
	}
	return ""
}

// components are all, by their names: modules of the program on both architectures that it is built for, Go's own library, and assets.
func components(t *testing.T) []component {
	t.Helper()
	var list []component
	for _, arch := range []string{"amd64", "arm64"} {
		c := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}{{end}}", "./cmd/millpond")
		c.Dir, c.Env = root, append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
		c.Stderr = t.Output()
		out, err := c.Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			if f := strings.Split(strings.TrimSpace(line), "\t"); len(f) == 3 {
				list = append(list, component{f[0], f[1], f[2]})
			}
		}
	}
	assets, err := filepath.Glob(root + "/push/web/static/*/*.LICENSE.txt")
	if err != nil || len(assets) == 0 {
		t.Fatalf("assets: %v, %v", assets, err)
	}
	for _, path := range assets {
		name := strings.TrimSuffix(filepath.Base(path), ".LICENSE.txt")
		list = append(list, component{name + " (embedded in the dashboard)", assetVersion(t, path, name), path})
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	list = append(list, component{"Go's standard library and runtime", "", filepath.Join(strings.TrimSpace(string(goroot)), "LICENSE")})
	slices.SortFunc(list, func(a, b component) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.version, b.version))
	})
	return slices.Compact(list)
}

// assetVersion is what the asset says at its beginning.
func assetVersion(t *testing.T, license, name string) string {
	t.Helper()
	scripts, _ := filepath.Glob(filepath.Join(filepath.Dir(license), name+".*.js"))
	for _, path := range scripts {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if v := regexp.MustCompile(`v\d+\.\d+\.\d+`).Find(b[:min(len(b), 500)]); v != nil {
			return string(v)
		}
	}
	t.Errorf("%s: no version in %v", license, scripts)
	return ""
}

var licenseFile = regexp.MustCompile(`(?i)^(licen[sc]e|copying|notice|unlicense)([-.].*)?$`)

// texts are the files of a component that say how it may be used.
func (c component) texts(t *testing.T) (texts []string) {
	t.Helper()
	paths := []string{c.dir}
	if info, err := os.Stat(c.dir); err != nil {
		t.Fatal(err)
	} else if info.IsDir() {
		paths = nil
		entries, err := os.ReadDir(c.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Type().IsRegular() && licenseFile.MatchString(e.Name()) {
				paths = append(paths, filepath.Join(c.dir, e.Name()))
			}
		}
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, strings.TrimSpace(strings.ReplaceAll(string(b), "\r\n", "\n")))
	}
	return texts
}

// The file is current, and everything in the program has a licence that is known and may go with it.
func TestThirdPartyLicenses(t *testing.T) {
	var index, bodies strings.Builder
	var texts []string
	users := map[string][]string{} // of each text
	list := components(t)
	if len(list) < 40 {
		t.Fatalf("%d components", len(list))
	}
	for _, c := range list {
		var known []string
		own := c.texts(t)
		title := strings.TrimSpace(c.name + " " + c.version)
		for _, text := range own {
			if users[text] == nil {
				texts = append(texts, text)
			}
			users[text] = append(users[text], title)
			if k := kind(text); k != "" && !slices.Contains(known, k) {
				known = append(known, k)
			}
		}
		if len(known) == 0 {
			t.Errorf("%s: no licence that is known, in %d files", c.name, len(own))
		}
		fmt.Fprintf(&index, "%s: %s\n", title, strings.Join(known, ", "))
	}
	for _, text := range texts {
		fmt.Fprintf(&bodies, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(users[text], "\n"), text)
	}
	made := "What millpond is linked of and embeds, and the licences of each. make generate writes this file.\n\n" + index.String() + bodies.String()
	b, err := os.ReadFile(file)
	if err == nil && string(b) == made {
		return
	}
	if os.Getenv("MILLPOND_WRITE_DOCS") == "" {
		t.Errorf("%s is not current: make generate", filepath.Base(file))
	} else if err := os.WriteFile(file, []byte(made), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestKind(t *testing.T) {
	for _, path := range []string{root + "/LICENSE"} {
		b, err := os.ReadFile(path)
		if err != nil || kind(string(b)) != "MIT" {
			t.Errorf("%s: %q, %v", path, kind(string(b)), err)
		}
	}
	for _, text := range []string{"", "GNU GENERAL PUBLIC LICENSE Version 3", "All rights reserved.", "Mozilla Public License Version 2.0"} {
		if k := kind(text); k != "" {
			t.Errorf("%q is taken for %s", text, k)
		}
	}
}
