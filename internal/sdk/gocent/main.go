// Command gocent calls the API with a Go library of Centrifugo: gocent URL KEY. It is a module of its own, so that the library is none of ours. Its
// release is older than the API: what it makes of the answer to channels is of that time, and is left out.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/centrifugal/gocent"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run prints a line of JSON for each call, with its name and what came of it.
func run(url, key string) error {
	c := gocent.New(gocent.Config{Addr: url + "/api", Key: key})
	ctx := context.Background()
	out := json.NewEncoder(os.Stdout)
	print := func(name string, result any, err error) error {
		line := map[string]any{"name": name, "result": result}
		if err != nil {
			line["error"] = err.Error()
		}
		return out.Encode(line)
	}
	do := func(name string, err error) error { return print(name, nil, err) }
	pipe := c.Pipe()
	_ = pipe.AddPublish("news:go", []byte(`{"n":3}`))
	_ = pipe.AddPublish("none:go", []byte(`{"n":4}`))
	_ = pipe.AddHistory("news:go")
	for _, step := range []func() error{
		func() error { return do("publish", c.Publish(ctx, "news:go", []byte(`{"n":1}`))) },
		func() error {
			return do("broadcast", c.Broadcast(ctx, []string{"news:go", "plain:go"}, []byte(`{"n":2}`)))
		},
		func() error { return do("publish to nowhere", c.Publish(ctx, "none:go", []byte(`{}`))) },
		func() error { r, err := c.History(ctx, "news:go"); return print("history", len(r.Publications), err) },
		func() error { r, err := c.Presence(ctx, "room:go"); return print("presence", len(r.Presence), err) },
		func() error { r, err := c.PresenceStats(ctx, "room:go"); return print("presence stats", r, err) },
		func() error { r, err := c.Info(ctx); return print("info", len(r.Nodes), err) },
		func() error { return do("unsubscribe", c.Unsubscribe(ctx, "news:go", "u")) },
		func() error { return do("disconnect", c.Disconnect(ctx, "u")) },
		func() error { replies, err := c.SendPipe(ctx, pipe); return print("pipe", replies, err) },
		func() error { return do("history remove", c.HistoryRemove(ctx, "news:go")) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
