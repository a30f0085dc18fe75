package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// This file is how parts of a load in other processes are told what to do: JSON-RPC over their standard input and
// output. The scenario's process asks, they answer; when their input ends, they do.

// remote is a part in another process.
type remote struct {
	command *exec.Cmd
	client  *rpc.Client
}

// pipe is a process's standard input and output.
type pipe struct {
	io.Reader
	io.WriteCloser
}

// startRemote starts the own binary as a part.
func startRemote(ctx context.Context, pl plan) (*remote, error) {
	command, err := ownCommand(context.WithoutCancel(ctx), "bench", "part")
	if err != nil {
		return nil, err
	}
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start a process of the load: %w", err)
	}
	r := &remote{command, jsonrpc.NewClient(pipe{out, in})}
	begin, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := r.call(begin, "Begin", pl, nil); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// call asks, and waits for the answer, which may be nil, as long as patience has it once ctx has ended.
func (r *remote) call(ctx context.Context, method string, args, answer any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	var out json.RawMessage
	call := r.client.Go("Service."+method, json.RawMessage(raw), &out, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
	case <-ctx.Done():
		r.client.Go("Service.Interrupt", json.RawMessage("null"), new(json.RawMessage), make(chan *rpc.Call, 1))
		select {
		case <-call.Done:
		case <-time.After(patience):
			_ = r.command.Process.Kill()
			return errSilent
		}
	}
	if call.Error != nil || answer == nil {
		return r.explain(call.Error)
	}
	return json.Unmarshal(out, answer)
}

// explain says what the end of a process looks like from here.
func (r *remote) explain(err error) error {
	if errors.Is(err, rpc.ErrShutdown) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE) {
		return fmt.Errorf("a process of the load has ended: %w", err)
	}
	return err
}

// ordered is an order as it is sent.
type ordered struct {
	Name string          `json:"name"`
	Args json.RawMessage `json:"args"`
}

func (r *remote) order(ctx context.Context, name string, args json.RawMessage) (answer json.RawMessage, err error) {
	err = r.call(ctx, "Order", ordered{name, args}, &answer)
	return answer, err
}

func (r *remote) collect(latencies bool) (t tally, err error) {
	// The answer comes at once, or the process is stuck.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = r.call(ctx, "Collect", latencies, &t)
	return t, err
}

func (r *remote) process() int { return r.command.Process.Pid }

func (r *remote) close() error {
	_ = r.client.Close() // it ends with its input
	kill := time.AfterFunc(2*patience, func() { _ = r.command.Process.Kill() })
	defer kill.Stop()
	if err := r.command.Wait(); err != nil {
		return fmt.Errorf("a process of the load: %w", err)
	}
	return nil
}

// ServePart makes a part of a load, as it is told on in, and answers on out, until in ends.
func ServePart(ctx context.Context, in io.Reader, out io.WriteCloser) error {
	debug.SetGCPercent(gcPercent)
	s := &Service{ctx: ctx}
	server := rpc.NewServer()
	if err := server.Register(s); err != nil {
		return err
	}
	server.ServeCodec(jsonrpc.NewServerCodec(pipe{&ending{in, s.interrupt}, out})) // returns when all calls have
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.part == nil {
		return nil
	}
	return s.part.close()
}

// ending is a reader that tells of its end.
type ending struct {
	io.Reader
	ended func()
}

// Read implements io.Reader.
func (e *ending) Read(b []byte) (int, error) {
	n, err := e.Reader.Read(b)
	if err != nil {
		e.ended()
	}
	return n, err
}

// nothing is the answer of who has none. JSON-RPC has no answer of null, and net/rpc drops one that is empty.
var nothing = json.RawMessage("{}")

// Service is what a part answers. Its methods are called by net/rpc alone.
type Service struct {
	ctx  context.Context
	mu   sync.Mutex
	part *local
}

// Begin makes the part by a plan.
func (s *Service) Begin(args json.RawMessage, answer *json.RawMessage) error {
	*answer = nothing
	var pl plan
	if err := json.Unmarshal(args, &pl); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.part != nil {
		return errors.New("it has begun")
	}
	if pl.Nice != 0 {
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, pl.Nice); err != nil {
			return err
		}
	}
	part, err := newLocal(s.ctx, pl)
	if err == nil {
		s.part = part
	}
	return err
}

func (s *Service) begun() (*local, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.part == nil {
		return nil, errors.New("it has not begun")
	}
	return s.part, nil
}

// Order carries out an order.
func (s *Service) Order(args json.RawMessage, answer *json.RawMessage) error {
	var o ordered
	if err := json.Unmarshal(args, &o); err != nil {
		return err
	}
	p, err := s.begun()
	if err == nil {
		*answer, err = p.order(s.ctx, o.Name, o.Args)
	}
	return err
}

// Collect tells what was counted.
func (s *Service) Collect(args json.RawMessage, answer *json.RawMessage) error {
	var latencies bool
	if err := json.Unmarshal(args, &latencies); err != nil {
		return err
	}
	p, err := s.begun()
	if err != nil {
		return err
	}
	t, err := p.collect(latencies)
	if err != nil {
		return err
	}
	*answer, err = json.Marshal(t)
	return err
}

// Interrupt ends the orders that are under way.
func (s *Service) Interrupt(_ json.RawMessage, answer *json.RawMessage) error {
	*answer = nothing
	s.interrupt()
	return nil
}

func (s *Service) interrupt() {
	if p, err := s.begun(); err == nil {
		p.interrupt(false)
	}
}
