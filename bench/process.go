package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// Where the server has an echo, and where it speaks its protocols.
const (
	echoPath       = "/echo"
	plainPath      = "/push"
	centrifugePath = "/connection/websocket"
)

// listening finds an address in the server's log.
var listening = regexp.MustCompile(`listening.*listener"?[=:]"?(public|internal)"?.*address"?[=:]"?([^\s"]+)`)

// ownCommand is the own binary with other arguments. It ends with this process, and Ctrl-C is ours to handle.
func ownCommand(ctx context.Context, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, self, args...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	return command, nil
}

// orOwn returns t, or if that has no URL, an own server as t wants it, at the path unless there is one. stop ends that
// one.
func (t Target) orOwn(ctx context.Context, path string) (_ Target, stop func() error, err error) {
	if t.URL != "" {
		u, err := url.Parse(t.URL)
		if err == nil && u.Path == "" && u.RawQuery == "" {
			t = t.at(path)
		}
		return t, func() error { return nil }, nil
	}
	t, stop, err = start(ctx, t)
	return t.at(path), stop, err
}

// start starts an own server. stop ends it by SIGTERM and reports how that went.
func start(ctx context.Context, want Target) (t Target, stop func() error, err error) {
	s, err := startServer(ctx, want)
	if err != nil {
		return t, nil, err
	}
	return s.Target, s.stop, nil
}

// writeConfig writes the server's file, in dir or, if that is empty, in a new directory.
func writeConfig(dir, content string) (string, error) {
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "millpond-bench-"); err != nil {
			return "", err
		}
	}
	return dir, os.WriteFile(filepath.Join(dir, "millpond.yaml"), []byte(content), 0o600)
}

// startBare starts the own binary as the yardstick of ServeBare.
func startBare(ctx context.Context) (Target, func() error, error) {
	return startPrinting(ctx, "the bare loop", "bench", "bare-server")
}

// startPrinting starts the own binary as a server that prints its URL first of all.
func startPrinting(ctx context.Context, name string, args ...string) (t Target, stop func() error, err error) {
	command, err := ownCommand(context.WithoutCancel(ctx), args...)
	if err != nil {
		return t, nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return t, nil, err
	}
	if err := command.Start(); err != nil {
		return t, nil, fmt.Errorf("start %s: %w", name, err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	stop = func() error { return terminate(command) }
	if err != nil {
		return t, nil, errors.Join(fmt.Errorf("%s does not listen: %w", name, err), stop())
	}
	return Target{URL: strings.TrimSpace(line), PID: command.Process.Pid}, stop, nil
}

// terminate sends SIGTERM and wants an exit code of 0 within 30 s.
func terminate(command *exec.Cmd) error {
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	kill := time.AfterFunc(30*time.Second, func() { _ = command.Process.Kill() })
	defer kill.Stop()
	if err := command.Wait(); err != nil {
		return fmt.Errorf("the server's end: %w", err)
	}
	return nil
}
