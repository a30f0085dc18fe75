// Command sbom writes the bill of materials of a built program, as CycloneDX JSON: what modules and which Go are linked, by what the program itself
// tells, and which assets are embedded. The licences are those of
// THIRD_PARTY_LICENSES.txt in the project's directory:
//
//	sbom -root DIR -version VERSION PROGRAM > FILE
//
// The same program gives the same bytes: there is no serial number, and the time is SOURCE_DATE_EPOCH's, or none.
package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// The titles in THIRD_PARTY_LICENSES.txt of what is no module.
const (
	standardLibrary = "Go's standard library and runtime"
	embedded        = " (embedded in the dashboard) "
)

func main() {
	root := flag.String("root", ".", "the project's directory")
	version := flag.String("version", "", "the program's version")
	flag.Parse()
	if *version == "" || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: sbom -root DIR -version VERSION PROGRAM")
		os.Exit(2)
	}
	if err := write(os.Stdout, *root, *version, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// write writes the bill of the program; root is where the licences and the assets are.
func write(w io.Writer, root, version, program string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(root, "THIRD_PARTY_LICENSES.txt"))
	if err != nil {
		return err
	}
	licences := licencesOf(string(text))
	components, err := modules(info, licences)
	if err != nil {
		return err
	}
	assets, err := assets(root, licences)
	if err != nil {
		return err
	}
	components = append(components, assets...)
	slices.SortFunc(components, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })

	product, err := product(info, version, program)
	if err != nil {
		return err
	}
	bom := cdx.NewBOM()
	bom.SerialNumber = ""
	bom.Metadata = &cdx.Metadata{Component: product}
	if bom.Metadata.Timestamp, err = timestamp(); err != nil {
		return err
	}
	bom.Components = &components
	bom.Dependencies = dependencies(product, components)
	var out bytes.Buffer
	if err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return err
	}
	_, err = w.Write(out.Bytes())
	return err
}

// licencesOf are the SPDX identifiers of each title, of the lines at the beginning of the file that internal/licenses writes.
func licencesOf(text string) map[string]*cdx.Licenses {
	index, _, _ := strings.Cut(text, "\n====")
	all := map[string]*cdx.Licenses{}
	for line := range strings.Lines(index) {
		title, ids, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			continue
		}
		var list cdx.Licenses
		for id := range strings.SplitSeq(ids, ", ") {
			list = append(list, cdx.LicenseChoice{License: &cdx.License{ID: id}})
		}
		all[title] = &list
	}
	return all
}

// modules are what is linked: the modules, and Go's own library by the name that databases of vulnerabilities have for it.
func modules(info *debug.BuildInfo, licences map[string]*cdx.Licenses) (list []cdx.Component, err error) {
	goVersion, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	list = append(list, library("stdlib", goVersion, golang("stdlib", goVersion), licences[standardLibrary]))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := library(m.Path, m.Version, golang(m.Path, m.Version), licences[m.Path+" "+m.Version])
		// A hash of names and hashes of files, which is none of the module's archive: no hash in CycloneDX's sense.
		c.Properties = &[]cdx.Property{{Name: "millpond:go.sum", Value: m.Sum}}
		if m.Sum == "" {
			err = errors.Join(err, fmt.Errorf("%s %s: no sum: not of a released module", m.Path, m.Version))
		}
		list = append(list, c)
	}
	return list, errors.Join(err, unlicensed(list))
}

// assets are those under push/web/static with a licence beside them, NAME.LICENSE.txt, with their files NAME.*. They are npm's packages of that name.
func assets(root string, licences map[string]*cdx.Licenses) (list []cdx.Component, err error) {
	for _, title := range slices.Sorted(maps.Keys(licences)) {
		name, version, ok := strings.Cut(title, embedded)
		if !ok {
			continue
		}
		version = strings.TrimPrefix(version, "v")
		c := library(name, version, "pkg:npm/"+strings.ToLower(name)+"@"+version, licences[title])
		paths, err := filepath.Glob(filepath.Join(root, "push/web/static/*", name+".*"))
		if err != nil || len(paths) < 2 {
			return nil, fmt.Errorf("%s: its files are %q: %w", title, paths, err)
		}
		var files []cdx.Component
		for _, path := range paths {
			sum, err := sha256Of(path)
			if err != nil {
				return nil, err
			}
			relative, err := filepath.Rel(root, path)
			if err != nil {
				return nil, err
			}
			files = append(files, cdx.Component{BOMRef: "file:" + relative, Type: cdx.ComponentTypeFile, Name: relative, Hashes: sum})
		}
		c.Components = &files
		list = append(list, c)
	}
	return list, unlicensed(list)
}

// product is the program itself: its bytes, and what it was built for.
func product(info *debug.BuildInfo, version, program string) (*cdx.Component, error) {
	sum, err := sha256Of(program)
	if err != nil {
		return nil, err
	}
	c := library(info.Main.Path, version, golang(info.Main.Path, version), &cdx.Licenses{{License: &cdx.License{ID: "MIT"}}})
	c.Type, c.Hashes, c.Properties = cdx.ComponentTypeApplication, sum, &[]cdx.Property{}
	for _, s := range info.Settings {
		*c.Properties = append(*c.Properties, cdx.Property{Name: "millpond:build:" + s.Key, Value: s.Value})
	}
	return &c, nil
}

// dependencies tells of each that it is in the product: a program knows what it is linked of, and not which of it wanted which.
func dependencies(product *cdx.Component, components []cdx.Component) *[]cdx.Dependency {
	var in []string
	list := []cdx.Dependency{{Ref: product.BOMRef, Dependencies: &in}}
	for _, c := range components {
		in = append(in, c.BOMRef)
		list = append(list, cdx.Dependency{Ref: c.BOMRef})
	}
	return &list
}

func library(name, version, purl string, licences *cdx.Licenses) cdx.Component {
	return cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: name, Version: version, PackageURL: purl, Licenses: licences}
}

// golang is the package URL of a module; its type's rules want lower case.
func golang(path, version string) string {
	return "pkg:golang/" + strings.ToLower(path) + "@" + url.QueryEscape(version)
}

func unlicensed(list []cdx.Component) (err error) {
	for _, c := range list {
		if c.Licenses == nil {
			err = errors.Join(err, fmt.Errorf("%s %s is not in THIRD_PARTY_LICENSES.txt: make generate", c.Name, c.Version))
		}
	}
	return err
}

func sha256Of(path string) (*[]cdx.Hash, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}}, nil
}

// timestamp is SOURCE_DATE_EPOCH's, seconds since 1970, in RFC 3339; empty without.
func timestamp() (string, error) {
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return "", nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return "", fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339), nil
}
