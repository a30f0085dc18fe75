package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// ownServer is the own binary's, in a process of its own.
type ownServer struct {
	Target
	want    Target
	command *exec.Cmd
	dir     string        // of its file and certificate; empty without
	gone    chan struct{} // closed when the process has ended
	err     error         // how, then
}

// startServer starts one on free ports of loopback, or where want listens, with TLS if want says so.
func startServer(ctx context.Context, want Target) (s *ownServer, err error) {
	s = &ownServer{want: want, dir: want.dir, gone: make(chan struct{})}
	listen, internal := "127.0.0.1:0", "127.0.0.1:0"
	if want.again {
		listen, internal = want.listen, want.internal
	}
	s.command, err = ownCommand(context.WithoutCancel(ctx), "serve", "--dev", "--listen="+listen, "--internal-listen="+internal, "--log-format=text")
	if err != nil {
		return nil, err
	}
	s.command.Args = append(s.command.Args, want.Flags...)
	if err := s.files(); err != nil {
		return nil, errors.Join(err, s.clean())
	}
	stderr, err := s.command.StderrPipe()
	if err != nil {
		return nil, errors.Join(err, s.clean())
	}
	if err := s.command.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the server: %w", err), s.clean())
	}
	lines := bufio.NewScanner(stderr)
	last := s.listens(lines)
	go func() { // so that the server never waits for its log
		for lines.Scan() {
		}
		s.err = s.command.Wait()
		close(s.gone)
	}()
	if s.Metrics == "" {
		return nil, errors.Join(fmt.Errorf("the server does not listen: %s", last), s.stop())
	}
	return s, nil
}

// files writes what the process is to read.
func (s *ownServer) files() (err error) {
	s.URL = "ws://"
	if s.want.OwnTLS {
		if s.dir == "" {
			if s.dir, err = certificate(); err != nil {
				return err
			}
		}
		s.URL, s.TLS.CA = "wss://", filepath.Join(s.dir, "ca.pem")
		s.command.Args = append(s.command.Args, "--tls-cert="+filepath.Join(s.dir, "cert.pem"), "--tls-key="+filepath.Join(s.dir, "key.pem"))
	}
	if s.want.Config != "" {
		if s.dir, err = writeConfig(s.dir, s.want.Config); err != nil {
			return err
		}
		s.command.Args = append(s.command.Args, "--config="+filepath.Join(s.dir, "millpond.yaml"))
	}
	return nil
}

// listens reads the log until it says where the server is, and returns the last line.
func (s *ownServer) listens(log *bufio.Scanner) (last string) {
	s.PID = s.command.Process.Pid
	for (s.listen == "" || s.Metrics == "") && log.Scan() {
		last = log.Text()
		switch m := listening.FindStringSubmatch(last); {
		case m == nil:
		case m[1] == "public":
			s.listen = m[2]
			s.URL += m[2] + echoPath
		default:
			s.internal = m[2]
			s.Metrics, s.API = "http://"+m[2]+"/metrics", "http://"+m[2]+"/api/"
		}
	}
	return last
}

// again is what startServer needs for the next process in the same place.
func (s *ownServer) again() Target {
	t := s.want
	t.again, t.listen, t.internal, t.dir = true, s.listen, s.internal, s.dir
	return t
}

// terminate sends SIGTERM, unless it has ended, and wants an exit code of 0 within 30 s.
func (s *ownServer) terminate() error {
	err := s.command.Process.Signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	return errors.Join(err, s.wait())
}

// wait wants it to end within 30 s, with an exit code of 0.
func (s *ownServer) wait() error {
	kill := time.AfterFunc(30*time.Second, func() { _ = s.command.Process.Kill() })
	defer kill.Stop()
	<-s.gone
	if s.err != nil {
		return fmt.Errorf("the server's end: %w", s.err)
	}
	return nil
}

// stop terminates it and removes its files.
func (s *ownServer) stop() error { return errors.Join(s.terminate(), s.clean()) }

func (s *ownServer) clean() error {
	if s.dir == "" {
		return nil
	}
	return os.RemoveAll(s.dir)
}
