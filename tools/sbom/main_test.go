package main

import (
	"bytes"
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const root = "../.."

// bill is what the command writes of a program.
func bill(t *testing.T, program string) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := write(&out, root, "v1.2.3", program); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// The bill of the program that make build makes keeps to CycloneDX's schema, names all modules that the program has and all assets, each with its
// version, licence and sum, and is the same twice.
func TestBill(t *testing.T) {
	dir := t.TempDir()
	command := exec.CommandContext(t.Context(), "make", "-s", "-C", root, "build", "BIN="+dir, "VERSION=v1.2.3")
	command.Env = append(os.Environ(), "GOFLAGS=")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program := filepath.Join(dir, "millpond")
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	made := bill(t, program)
	if !bytes.Equal(made, bill(t, program)) {
		t.Error("another one, the second time")
	}
	validate(t, made)

	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(made), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	sum, err := exec.CommandContext(t.Context(), "sha256sum", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	p := bom.Metadata.Component
	if bom.SerialNumber != "" || bom.Metadata.Timestamp != "2023-11-14T22:13:20Z" || p.Name != "github.com/millpond/millpond" || p.Version != "v1.2.3" ||
		!strings.HasPrefix(string(sum), (*p.Hashes)[0].Value+" ") {
		t.Errorf("the program is %+v of %+v, want %s", p, bom.Metadata, sum)
	}
	found := map[string]cdx.Component{}
	for _, c := range *bom.Components {
		if c.Licenses == nil || c.PackageURL == "" || c.Version == "" {
			t.Errorf("%s is only %+v", c.Name, c)
		}
		found[c.Name] = c
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil || len(info.Deps) < 40 {
		t.Fatalf("%v: %+v", err, info)
	}
	for _, m := range info.Deps {
		c, ok := found[m.Path]
		if !ok || c.Version != m.Version || (*c.Properties)[0].Value != m.Sum || !strings.HasPrefix(m.Sum, "h1:") {
			t.Errorf("%s %s %s is %+v", m.Path, m.Version, m.Sum, c)
		}
		delete(found, m.Path)
	}
	if c := found["stdlib"]; "go"+c.Version != info.GoVersion || c.PackageURL != "pkg:golang/stdlib@"+c.Version {
		t.Errorf("%s is %+v", info.GoVersion, c)
	}
	delete(found, "stdlib")
	licences, err := filepath.Glob(root + "/push/web/static/*/*.LICENSE.txt")
	if err != nil || len(licences) == 0 {
		t.Fatalf("%v: %v", licences, err)
	}
	for _, path := range licences {
		name := strings.TrimSuffix(filepath.Base(path), ".LICENSE.txt")
		files, err := filepath.Glob(strings.TrimSuffix(path, "LICENSE.txt") + "*")
		if c := found[name]; err != nil || c.Components == nil || len(*c.Components) != len(files) || c.PackageURL != "pkg:npm/"+strings.ToLower(name)+"@"+c.Version {
			t.Errorf("%s with %v is %+v: %v", name, files, c, err)
		}
		delete(found, name)
	}
	if len(found) != 0 {
		t.Errorf("in no program: %+v", found)
	}
	if n := len(*(*bom.Dependencies)[0].Dependencies); n != len(*bom.Components) {
		t.Errorf("the program depends on %d of %d", n, len(*bom.Components))
	}
}

// validate holds a bill against the schema, which comes with the library.
func validate(t *testing.T, made []byte) {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	for file, id := range map[string]string{"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json", "jsf-0.82.schemax.json": "jsf-0.82.schema.json"} {
		b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "schema", file))
		if err != nil {
			t.Fatal(err)
		}
		schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource("http://cyclonedx.org/schema/"+id, schema); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(made))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		t.Error(err)
	}
	// The schema is none that lets everything pass.
	value.(map[string]any)["components"].([]any)[0].(map[string]any)["type"] = "pond"
	if schema.Validate(value) == nil {
		t.Error("the schema takes anything")
	}
}

// What a bill can't be made of gives an error, and no half of one.
func TestNoBill(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, program := range map[string]string{"absent": "absent", "no program": "main.go", "modules without a licence on record": self} {
		var out bytes.Buffer
		if err := write(&out, root, "v1", program); err == nil || out.Len() != 0 {
			t.Errorf("%s: %v, %d bytes", name, err, out.Len())
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "soon")
	if stamp, err := timestamp(); err == nil {
		t.Errorf("a time of soon is %q", stamp)
	}
}

func TestGolang(t *testing.T) {
	for _, c := range []struct{ path, version, want string }{
		{"github.com/VividCortex/ewma", "v1.2.0", "pkg:golang/github.com/vividcortex/ewma@v1.2.0"},
		{"example.com/a/v2", "v2.0.0+incompatible", "pkg:golang/example.com/a/v2@v2.0.0%2Bincompatible"},
	} {
		if got := golang(c.path, c.version); got != c.want {
			t.Errorf("%s %s is %s, want %s", c.path, c.version, got, c.want)
		}
	}
}
