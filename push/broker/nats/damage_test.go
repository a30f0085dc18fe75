package nats

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millpond/millpond/push/broker/brokertest"
	"github.com/millpond/millpond/push/broker/nats/embedded"
	"github.com/millpond/millpond/push/hub"
)

// change changes the bytes of a file.
func change(t *testing.T, path string, f func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, f(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func flip(at func(size int) int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[at(len(b))] ^= 0x10
		return b
	}
}

// Whatever happens to the files of a server that is stopped: it says that positions of before mean nothing, or does not start, or has all there was. It never has
// less in silence, nor anything else.
func TestDamagedDirectory(t *testing.T) {
	remove := func(t *testing.T, path string) {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	type damage struct {
		name    string
		harm    func(t *testing.T, stream string)
		unhurt  bool // all there was is there
		orderly bool // it is seen only after an orderly end
	}
	cases := []damage{
		{name: "nothing", harm: func(*testing.T, string) {}, unhurt: true},
		{name: "index removed", harm: func(t *testing.T, s string) { remove(t, filepath.Join(s, "msgs/index.db")) }, unhurt: true},
		{name: "index damaged", harm: func(t *testing.T, s string) {
			change(t, filepath.Join(s, "msgs/index.db"), flip(func(n int) int { return n / 2 }))
		}, unhurt: true},
		{name: "index cut", harm: func(t *testing.T, s string) {
			change(t, filepath.Join(s, "msgs/index.db"), func(b []byte) []byte { return b[:len(b)/2] })
		}, unhurt: true},
		{name: "block removed", harm: func(t *testing.T, s string) { remove(t, filepath.Join(s, "msgs/1.blk")) }, orderly: true},
		{name: "block empty", harm: func(t *testing.T, s string) {
			change(t, filepath.Join(s, "msgs/1.blk"), func([]byte) []byte { return nil })
		}, orderly: true},
		{name: "block cut", harm: func(t *testing.T, s string) {
			change(t, filepath.Join(s, "msgs/1.blk"), func(b []byte) []byte { return b[:len(b)-40] })
		}, orderly: true},
		{name: "block longer", harm: func(t *testing.T, s string) {
			change(t, filepath.Join(s, "msgs/1.blk"), func(b []byte) []byte { return append(b, make([]byte, 100)...) })
		}},
		{name: "block of another", harm: func(t *testing.T, s string) {
			change(t, filepath.Join(s, "msgs/1.blk"), func(b []byte) []byte { return slices.Concat(b[len(b)/2:], b[:len(b)/2]) })
		}},
		{name: "blocks removed", harm: func(t *testing.T, s string) { remove(t, filepath.Join(s, "msgs")) }, orderly: true},
		{name: "stream removed", harm: func(t *testing.T, s string) { remove(t, s) }},
		{name: "meta removed", harm: func(t *testing.T, s string) { remove(t, filepath.Join(s, "meta.inf")) }},
		{name: "meta damaged", harm: func(t *testing.T, s string) {
			change(t, filepath.Join(s, "meta.inf"), flip(func(n int) int { return n / 2 }))
		}},
		{name: "meta's sum removed", harm: func(t *testing.T, s string) { remove(t, filepath.Join(s, "meta.sum")) }},
	}
	for _, part := range []int{0, 1, 2, 3, 5, 7, 10, 14, 20, 50, 99} {
		cases = append(cases, damage{name: fmt.Sprintf("byte %d%% flipped", part), harm: func(t *testing.T, s string) {
			change(t, filepath.Join(s, "msgs/1.blk"), flip(func(n int) int { return min(n*part/100+part, n-1) }))
		}})
	}
	for _, c := range cases {
		for _, killed := range []bool{false, true} {
			if killed && c.orderly {
				continue
			}
			t.Run(fmt.Sprintf("%s, killed %t", c.name, killed), func(t *testing.T) {
				t.Parallel()
				damageOne(t, c.harm, c.unhurt, killed)
			})
		}
	}
}

func damageOne(t *testing.T, harm func(*testing.T, string), unhurt, killed bool) {
	const many = 100
	dir := t.TempDir()
	s := startEmbedded(t, dir)
	link := openLink(t, LinkConfig{Server: s})
	config := Config{Groups: 1, MaxHistorySize: many}
	all := hub.PublishOptions{Retention: hub.Retention{Size: many, TTL: time.Hour}}
	n := nodeOn(t, link, config)
	var before hub.Position
	for i := range many {
		n.Publish(t, "quiet", fmt.Sprint(i), all)
		before = n.Publish(t, "c", fmt.Sprint(i), all)
	}
	of(n).Close()
	_ = link.Close(t.Context())
	shutdown(t, s)
	identity := filepath.Join(dir, "identity")
	if killed { // as if it had not ended in an orderly way
		boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			t.Fatal(err)
		}
		change(t, identity, func(b []byte) []byte {
			var id map[string]any
			decoder := json.NewDecoder(bytes.NewReader(b))
			decoder.UseNumber()
			if err := decoder.Decode(&id); err != nil {
				t.Error(err)
			}
			delete(id, "blocks")
			id["boot"] = strings.TrimSpace(string(boot))
			b, _ = json.Marshal(id)
			return b
		})
	}
	harm(t, filepath.Join(dir, "jetstream/jetstream/$G/streams/millpond-h0"))

	s, err := embedded.Start(embedded.Config{Dir: dir, StoreBytes: 256 << 20, Logger: silent})
	if err != nil {
		if unhurt || !strings.Contains(err.Error(), dir) {
			t.Errorf("it does not start: %v", err)
		}
		return
	}
	t.Cleanup(func() { shutdown(t, s) })
	config.Renew, config.Renewed = s.Suspect(), s.Settled
	n = newNode(t, s, config)
	for _, channel := range []string{"c", "quiet"} {
		h := n.History(t, channel, hub.HistoryQuery{Limit: -1})
		texts := brokertest.Texts(h.Publications)
		if same := h.Top.Epoch == before.Epoch; same != unhurt || same && (len(texts) != many || h.Top.Offset < before.Offset) {
			t.Errorf("%s: the epoch is the same: %t; %d of %d are there, because of %q", channel, same, len(texts), many, s.Suspect())
		}
		for i, text := range texts {
			if i > 0 && texts[i-1] >= text && len(texts[i-1]) >= len(text) || text == "" || strings.Trim(text, "0123456789") != "" {
				t.Errorf("%s: %q came after %q", channel, text, texts[max(i, 1)-1])
			}
		}
	}
	if p := n.Publish(t, "c", "after", all); p.Epoch == before.Epoch != unhurt {
		t.Errorf("%+v after %+v", p, before)
	}
}
