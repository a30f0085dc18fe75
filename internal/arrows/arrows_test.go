package arrows

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/millpond/millpond"

// row says what a package of ours may import beside the standard library: packages of ours by
// their path in the module, modules of others by their path.
type row struct {
	pkg  string
	why  string
	may  []string
	test []string // what its tests may import on top
}

// anywhere is what every package's tests may import.
var anywhere = []string{"go.uber.org/goleak", "github.com/coder/websocket", "golang.org/x/sys"}

var table = []row{
	{
		"poller", "knows descriptors and nothing of WebSocket; the only one that knows netpoll",
		[]string{"github.com/cloudwego/netpoll", "golang.org/x/sys", "golang.org/x/time"},
		[]string{"internal/testcert"},
	},
	{
		"handshake", "bytes to bytes, knows nothing of sockets; with codec the only one that knows gobwas/ws",
		[]string{"github.com/gobwas/ws"},
		nil,
	},
	{
		"codec", "bytes to messages, knows nothing of sockets; with handshake the only one that knows gobwas/ws",
		[]string{"github.com/gobwas/ws", "github.com/klauspost/compress"},
		nil,
	},
	{
		"pool", "runs functions; the only one that knows ants",
		[]string{"github.com/panjf2000/ants/v2"},
		nil,
	},
	{
		"session", "the engine: joins the four below it, and knows nothing of channels",
		[]string{"poller", "handshake", "codec", "pool", "internal/histogram", "golang.org/x/sys", "github.com/pires/go-proxyproto"},
		[]string{"internal/testcert"},
	},
	{
		"push", "the product: joins its rooms with the engine",
		[]string{
			"session", "push/hub",
			"push/broker/memory", "push/broker/nats", "push/broker/nats/embedded",
			"push/protocol/plain", "push/protocol/centrifuge", "push/protocol/inquiry",
			"push/events", "push/logs", "push/tracing", "push/auth",
			"push/certs", "push/takeover", "push/tap", "push/dashboard", "push/api",
			"push/web", "push/webhook", "push/cluster", "push/queue", "push/pressure",
			"internal/histogram", "internal/nearest",
			"github.com/prometheus/client_golang", "github.com/prometheus/procfs",
		},
		[]string{
			"internal/program", "internal/browser", "internal/testcert", "push/protocol/centrifuge/wire", "push/protocol/centrifuge/fossil", // a client's
			"internal/eventsink",
			"github.com/chromedp/chromedp", "github.com/golang-jwt/jwt/v5", "github.com/prometheus/client_model", "github.com/getkin/kin-openapi",
			"go.opentelemetry.io/proto/otlp", "google.golang.org/protobuf", "github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go",
		},
	},
	{"push/hub", "declares what it needs of brokers and subscribers, and imports neither", []string{"push/hub/names", "internal/histogram"}, []string{"push/broker/memory"}},
	{"push/hub/names", "a table for whoever has a thing for each channel", nil, nil},
	{"push/broker/memory", "a broker implements the hub's interface", []string{"push/hub", "push/hub/names"}, []string{"push/broker/brokertest"}},
	{"push/broker/brokertest", "tests of what every broker promises, which knows none", []string{"push/hub"}, nil},
	{
		"push/broker/nats", "a broker implements the hub's interface; with the embedded server the only one that knows NATS",
		[]string{"push/hub", "push/hub/names", "internal/files", "github.com/nats-io/nats.go", "github.com/nats-io/nkeys", "golang.org/x/time"},
		[]string{"push/broker/nats/embedded", "push/broker/brokertest", "github.com/nats-io/nats-server/v2"},
	},
	{
		"push/broker/nats/embedded", "a server that others reach by its connections; the only one that knows the server's package",
		[]string{"github.com/nats-io/nats-server/v2", "github.com/minio/highwayhash", "golang.org/x/sys", "github.com/google/renameio/v2"},
		[]string{"internal/testcert", "github.com/nats-io/nats.go"},
	},
	{
		"push/protocol/plain", "a protocol sees the hub, and the connection by an interface of its own",
		[]string{"push/hub", "push/protocol/inquiry", "push/protocol/pace", "push/protocol/roster"},
		[]string{"push/broker/memory"},
	},
	{"push/protocol/pace", "knows how much waits for a client and nothing of the protocol", []string{"push/hub", "push/protocol/roster"}, nil},
	{"push/protocol/inquiry", "says what a backend is asked and asks nobody", []string{"push/hub"}, nil},
	{"push/protocol/roster", "knows a protocol's clients and nothing of the protocol", []string{"push/hub"}, nil},
	{
		"push/protocol/centrifuge", "a protocol sees the hub, and the connection by an interface of its own",
		[]string{"push/hub", "push/protocol/inquiry", "push/protocol/pace", "push/protocol/roster", "push/protocol/centrifuge/wire", "push/protocol/centrifuge/fossil", "github.com/google/uuid"},
		[]string{"push/broker/memory"},
	},
	{
		"push/protocol/centrifuge/wire", "bytes to messages, knows nothing of connections or the hub; the only one that knows Protobuf",
		[]string{"google.golang.org/protobuf", "github.com/planetscale/vtprotobuf"},
		nil,
	},
	{"push/protocol/centrifuge/fossil", "bytes to bytes: a format of deltas, which knows nothing of protocols", nil, nil},
	{"push/pressure", "reads what the kernel says of memory, and knows nothing of connections", []string{"internal/cgroup"}, nil},
	{"push/logs", "lines in files, and nothing of what they tell", nil, nil},
	{
		"push/tracing", "spans; the only one that knows OpenTelemetry",
		[]string{"go.opentelemetry.io/otel", "go.opentelemetry.io/otel/sdk", "go.opentelemetry.io/otel/trace", "go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"},
		nil,
	},
	{"push/certs", "knows files and nothing of connections", []string{"push/watch", "internal/files"}, []string{"internal/testcert"}},
	{"push/watch", "knows files and nothing of what they say", []string{"internal/files", "github.com/fsnotify/fsnotify"}, nil},
	{"push/takeover", "hands descriptors to another process, and knows nothing of what they are for", []string{"golang.org/x/sys"}, nil},
	{
		"push/tap", "looks on at sessions and knows nothing of protocols; the only one that knows gopacket",
		[]string{"session", "codec", "github.com/gopacket/gopacket", "golang.org/x/time"},
		[]string{"internal/program", "internal/testcert"},
	},
	{"push/dashboard", "sends figures to sessions, and knows nothing of what they are about", []string{"session"}, nil},
	{
		"push/auth", "knows tokens and nothing of connections; of the hub it has the words for a channel's options",
		[]string{"push/hub", "push/watch", "internal/files", "github.com/golang-jwt/jwt/v5", "github.com/go-jose/go-jose/v4", "github.com/google/renameio/v2"},
		nil,
	},
	{
		"push/api", "sees the hub, and nothing of connections",
		[]string{"push/hub", "push/logs", "push/tracing", "internal/histogram", "internal/files", "golang.org/x/time"},
		[]string{"push/broker/memory", "github.com/getkin/kin-openapi"},
	},
	{
		"push/webhook", "knows HTTP and a backend's shapes, and nothing of connections",
		[]string{"push/hub", "push/webhook/sign", "push/tracing", "internal/histogram", "internal/files", "github.com/sony/gobreaker/v2"},
		[]string{"internal/testcert"},
	},
	{
		"push/events", "tells a backend what the hub says, and sees neither protocols nor connections",
		[]string{"push/hub", "push/events/journal", "push/webhook/sign"},
		[]string{"push/broker/memory", "internal/eventsink", "internal/program"},
	},
	{
		"push/events/journal", "records in files, and nothing of what they mean",
		[]string{"golang.org/x/sys", "github.com/google/renameio/v2"},
		nil,
	},
	{"push/webhook/sign", "bytes to a header, and back", nil, nil},
	{"push/queue", "carries commands out in their order, and knows neither what they are nor where they come from", []string{"push/hub", "golang.org/x/time"}, nil},
	{"push/cluster", "knows nodes and messages, neither what they mean nor how they travel", nil, []string{"push/broker/nats", "push/broker/nats/embedded"}},
	{"push/web", "files", nil, []string{"internal/browser", "github.com/chromedp/chromedp"}},
	{
		"bench", "a client of the engine's parts, which speaks the protocols as a client and knows nothing else of the product",
		[]string{
			"bench/report", "bench/verify", "session", "poller", "codec", "push/protocol/centrifuge/wire", "internal/testcert", "golang.org/x/sys",
			"github.com/golang-jwt/jwt/v5", "github.com/prometheus/procfs", "github.com/vbauerster/mpb/v8",
		},
		nil,
	},
	{"bench/report", "knows figures, and nothing of how they are measured", []string{"internal/nearest", "github.com/HdrHistogram/hdrhistogram-go"}, []string{"internal/browser", "github.com/chromedp/chromedp"}},
	{"bench/verify", "judges messages, and knows no protocol and no connection", nil, nil},
	{
		"bench/million", "runs the built binary in a machine of its own, and knows nothing of its insides",
		[]string{"golang.org/x/sys", "github.com/prometheus/procfs"},
		[]string{"internal/program"},
	},
	{
		"cmd/millpond", "maps flags onto the structs of push and bench",
		[]string{"push", "push/auth", "bench", "bench/report", "session", "internal/nearest", "internal/doctor", "internal/cgroup", "internal/files", "github.com/google/renameio/v2", "github.com/alecthomas/kong", "github.com/coder/websocket", "github.com/goccy/go-yaml", "github.com/coreos/go-systemd/v22", "golang.org/x/sys"},
		[]string{"internal/testcert", "internal/eventsink", "internal/program", "push/events", "github.com/golang-jwt/jwt/v5", "github.com/google/go-cmp", "github.com/santhosh-tekuri/jsonschema/v6", "github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go", "github.com/nats-io/nkeys", "github.com/nats-io/jwt/v2"},
	},
	{"deploy", "tests of the files beside it", nil, []string{"internal/program", "github.com/goccy/go-yaml"}},
	{"internal/browser", "starts a browser for tests", []string{"github.com/chromedp/chromedp"}, nil},
	{
		"internal/sdk", "tests of the whole product with somebody else's client", nil,
		[]string{"push", "session", "internal/browser", "github.com/chromedp/chromedp"},
	},
	{"internal/eventsink", "a backend for tests of events", []string{"push/events", "push/webhook/sign"}, nil},
	{"internal/histogram", "counts durations", nil, nil},
	{"internal/program", "finds programs that tests start", nil, nil},
	{"internal/licenses", "has a test, of the program's dependencies", nil, nil},
	{"internal/testcert", "makes certificates for tests and for the servers that bench starts", nil, nil},
	{
		"docs/examples/webhooks", "a backend, which checks signatures",
		[]string{"push/webhook/sign"},
		[]string{"push", "push/hub", "internal/program", "github.com/goccy/go-yaml"},
	},
	{"internal/nearest", "strings to a string", nil, nil},
	{"internal/doctor", "reads what the kernel says, and knows nothing of servers", []string{"internal/cgroup", "golang.org/x/sys"}, nil},
	{"internal/cgroup", "reads what the kernel says", nil, nil},
	{"internal/files", "reads what operators name, and knows nothing of what it says", []string{"golang.org/x/sys"}, nil},
	{"internal/arrows", "this test", nil, nil},
}

// listed is a package as go list prints it.
type listed struct {
	ImportPath   string
	Standard     bool
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func TestArrows(t *testing.T) {
	rows := map[string]row{}
	for _, r := range table {
		rows[r.pkg] = r
	}
	std := standard(t)
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		r, ok := rows[name]
		if !ok {
			t.Errorf("%s has no row in the table: say what it may import, and why", p.ImportPath)
			continue
		}
		delete(rows, name)
		check(t, r, std, p.Imports, r.may)
		check(t, r, std, append(p.TestImports, p.XTestImports...), slices.Concat(r.may, r.test, anywhere, []string{name}))
	}
	for name := range rows {
		t.Errorf("the table has a row for %s, which does not exist", name)
	}
}

// The picture in docs/architecture.md has every room: the packages at the top, and those of push.
func TestHouseIsDrawn(t *testing.T) {
	picture, err := os.ReadFile("../../docs/house.svg")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range table {
		name := strings.TrimPrefix(r.pkg, "push/")
		if strings.Contains(name, "/") || name == "deploy" { // within a room, or no part of the program
			continue
		}
		if !bytes.Contains(picture, []byte(name)) {
			t.Errorf("docs/house.svg has no %s", r.pkg)
		}
	}
}

func check(t *testing.T, r row, std map[string]bool, imports, may []string) {
	t.Helper()
	for _, path := range imports {
		if std[path] || path == "C" || slices.ContainsFunc(may, func(allowed string) bool { return covers(allowed, path) }) {
			continue
		}
		t.Errorf("%s imports %s, but: %s", r.pkg, path, r.why)
	}
}

// covers reports whether a row's entry allows an import: one package of ours, or all
// packages of another's module.
func covers(allowed, path string) bool {
	if ours, ok := strings.CutPrefix(path, module+"/"); ok {
		return allowed == ours
	}
	return path == allowed || strings.HasPrefix(path, allowed+"/")
}

// standard returns the import paths of the standard library.
func standard(t *testing.T) map[string]bool {
	std := map[string]bool{"unsafe": true}
	for _, p := range list(t, "std") {
		std[p.ImportPath] = true
	}
	return std
}

func list(t *testing.T, pattern string) []listed {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Standard,Imports,TestImports,XTestImports", pattern)
	command.Dir = "../.."
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
