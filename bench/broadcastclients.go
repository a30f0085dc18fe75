package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// This file is the other processes of Broadcast: the subscribers of one server, and who publishes to them.

// broadcastClients is such a process, as Broadcast sees it.
type broadcastClients struct {
	command  *exec.Cmd
	stdin    io.WriteCloser
	answers  *json.Decoder
	failures map[string]int // of both
	seen     map[string]int // its own
}

// broadcastAnswer is what it prints: first of all when all are subscribed, then for each line with a kind of run.
type broadcastAnswer struct {
	Run      BroadcastRun   `json:"run"`
	Failures map[string]int `json:"failures"` // up to now
	Error    string         `json:"error"`
}

// startClients starts one and waits until all are subscribed. Its failures are added up in failures.
func (c BroadcastConfig) startClients(ctx context.Context, t Target, failures map[string]int) (*broadcastClients, error) {
	command, stdin, stdout, err := startPiped(ctx, "bench", "--url="+t.URL, "--pid="+strconv.Itoa(t.PID), "--api="+t.API, "broadcast-clients",
		"--connections="+strconv.Itoa(c.Connections), "--messages="+strconv.Itoa(c.Messages), "--message-bytes="+strconv.Itoa(c.MessageBytes),
		"--pairs="+strconv.Itoa(c.Pairs), "--protobuf="+strconv.FormatBool(c.Protobuf))
	if err != nil {
		return nil, err
	}
	b := &broadcastClients{command: command, stdin: stdin, answers: json.NewDecoder(stdout), failures: failures}
	if _, err := b.answer(); err != nil {
		return nil, errors.Join(err, b.stop())
	}
	return b, nil
}

// run has it do one.
func (b *broadcastClients) run(kind string) (BroadcastRun, error) {
	if _, err := fmt.Fprintln(b.stdin, kind); err != nil {
		return BroadcastRun{}, err
	}
	return b.answer()
}

func (b *broadcastClients) answer() (BroadcastRun, error) {
	var a broadcastAnswer
	if err := b.answers.Decode(&a); err != nil {
		return a.Run, fmt.Errorf("the subscribers' process: %w", err)
	}
	for what, n := range a.Failures {
		b.failures[what] += n - b.seen[what]
	}
	b.seen = a.Failures
	if a.Error != "" {
		return a.Run, errors.New(a.Error)
	}
	return a.Run, nil
}

func (b *broadcastClients) stop() error { return errors.Join(b.stdin.Close(), b.command.Wait()) }

// broadcastChannel is what all subscribe to. The server is a new one, so its first publication has offset 1.
const broadcastChannel = "bench:all"

// broadcastRun is the subscribers of one server, and who publishes.
type broadcastRun struct {
	config   BroadcastConfig
	pid      int
	crowd    *crowd
	expected [][]byte // the messages, as the subscribers get them, in order
	next     int      // of them, that was not published yet
	publish  func(ctx context.Context, from, to int) error
}

// BroadcastClients is such a process: it subscribes, does the runs whose kinds are the lines of in, each of which there
// may be c.Pairs of, and prints what they found. The server is the yardstick if it has no API.
func BroadcastClients(ctx context.Context, t Target, c BroadcastConfig, in io.Reader, out io.Writer) (err error) {
	c = c.withDefaults()
	p, err := newPoller()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	d, err := t.newDialect(ctx, p, inOptions(c.Protobuf))
	if err != nil {
		return err
	}
	b := &broadcastRun{config: c, pid: t.PID, crowd: newCrowd(d)}
	if err := b.prepare(); err != nil {
		return err
	}
	b.crowd.check = b.check
	defer b.crowd.leave()
	if t.API != "" {
		publisher, err := newAPI(t)
		if err != nil {
			return err
		}
		defer publisher.close()
		b.publish = b.byAPI(publisher)
	} else {
		b.publish = b.bySocket
	}
	answers := json.NewEncoder(out)
	if err := answers.Encode(b.answer(BroadcastRun{}, b.begin(ctx, t.API == ""))); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		run, err := b.measure(ctx, lines.Text())
		if err := answers.Encode(b.answer(run, err)); err != nil {
			return err
		}
	}
	return nil
}

func (b *broadcastRun) answer(run BroadcastRun, err error) broadcastAnswer {
	a := broadcastAnswer{Run: run, Failures: b.crowd.counts()}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

// begin subscribes, and sends what is not counted.
func (b *broadcastRun) begin(ctx context.Context, bare bool) error {
	open := b.config.Connections
	b.crowd.channels = func(int) []string { return []string{broadcastChannel} }
	if bare {
		d := b.crowd.dialect
		d.hello, d.helloOf, d.greeted = nil, nil, false
		b.crowd.channels = func(int) []string { return nil }
		open++ // who publishes receives nothing
	}
	if err := b.crowd.grow(ctx, open); err != nil {
		return err
	}
	return b.send(ctx, broadcastWarmUp, 1)
}

// prepare makes all messages of the run.
func (b *broadcastRun) prepare() error {
	for n := range broadcastWarmUp + len(broadcastKinds)*b.config.Pairs*b.config.Messages {
		offset := uint64(n) + 1
		push := &wire.Push{Channel: broadcastChannel, Pub: &wire.Publication{Data: numbered(offset, b.config.MessageBytes), Offset: offset}}
		payload, err := b.crowd.dialect.codec.AppendReply(nil, &wire.Reply{Push: push})
		if err != nil {
			return err
		}
		b.expected = append(b.expected, payload)
	}
	return nil
}

// byAPI publishes as a backend does.
func (b *broadcastRun) byAPI(publisher *api) func(ctx context.Context, from, to int) error {
	return func(ctx context.Context, from, to int) error {
		for n := from; n < to; n++ {
			offset := uint64(n) + 1
			got, err := publisher.publish(ctx, broadcastChannel, numbered(offset, b.config.MessageBytes))
			if err == nil && got != offset {
				err = fmt.Errorf("publication %d has offset %d", offset, got)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// bySocket has the yardstick's first connection send what all others get.
func (b *broadcastRun) bySocket(_ context.Context, from, to int) error {
	var frames []byte
	for _, payload := range b.expected[from:to] {
		frames = append(frames, b.crowd.dialect.mask(payload)...)
	}
	b.crowd.members[0].send(frames)
	return nil
}

// send publishes messages, so many at once, each time when all have received those before.
func (b *broadcastRun) send(ctx context.Context, messages, atOnce int) error {
	for end := b.next + messages; b.next < end; {
		to := min(b.next+atOnce, end)
		b.crowd.expect((to - b.next) * b.config.Connections)
		if err := b.publish(ctx, b.next, to); err != nil {
			return err
		}
		b.next = to
		if err := b.crowd.await(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *broadcastRun) measure(ctx context.Context, kind string) (r BroadcastRun, err error) {
	atOnce := 1
	if kind == BroadcastQueued {
		atOnce = b.config.Messages
	}
	server, err := cpu(b.pid)
	if err != nil {
		return r, err
	}
	client, err := cpu(os.Getpid())
	if err != nil {
		return r, err
	}
	received, reads, begin := b.crowd.received.Load(), b.crowd.dialect.reads.Load(), time.Now()
	err = b.send(ctx, b.config.Messages, atOnce)
	r.Took = time.Since(begin)
	select {
	case <-time.After(20 * time.Millisecond): // for what the server does when all is sent
	case <-ctx.Done():
	}
	serverAfter, _ := cpu(b.pid)
	clientAfter, _ := cpu(os.Getpid())
	r.ServerCPU, r.ClientCPU = serverAfter-server, clientAfter-client
	r.Deliveries, r.Reads = b.crowd.received.Load()-received, b.crowd.dialect.reads.Load()-reads
	return r, err
}

// check is for messages to a subscriber: every one, in order, each once, to the byte.
func (b *broadcastRun) check(m *member, payload []byte) error {
	if int(m.next) == len(b.expected) {
		return errSurplus
	}
	if !bytes.Equal(payload, b.expected[m.next]) {
		return fmt.Errorf("%w: publication %d", errContent, m.next+1)
	}
	m.next++
	m.got()
	return nil
}
