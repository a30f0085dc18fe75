package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/millpond/millpond/push"
)

// millpond tap prints the frames of a server in words and as JSON, and writes a capture; what goes wrong it says.
func TestTap(t *testing.T) {
	p := startProcess(t, "--dev")
	internal := "--url=http://" + p.internal
	talk := func() {
		conn, _, err := websocket.Dial(t.Context(), "ws://"+p.public+"/echo", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Write(t.Context(), websocket.MessageText, []byte("hello\x1b[31m")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = conn.CloseNow()
	}
	begin := func(args ...string) func() string {
		reader, writer := io.Pipe()
		done := make(chan string, 1)
		var errs strings.Builder
		var code int
		go func() {
			code = run(t.Context(), append([]string{"tap", internal, "--count=2"}, args...), writer, &errs)
			_ = writer.Close()
		}()
		go func() {
			all, _ := io.ReadAll(reader)
			done <- string(all)
		}()
		p.awaitMetric(`millpond_tap_captures{kind="api"} 1`)
		return func() string {
			t.Helper()
			out := <-done
			if code != 0 {
				t.Fatalf("%v: %s", args, errs.String())
			}
			p.awaitMetric(`millpond_tap_captures{kind="api"} 0`)
			return out
		}
	}
	end := begin()
	talk()
	words := end()
	for _, want := range []string{
		"looking at all\n", " open /echo from 127.0.0.1:", "    Sec-WebSocket-Accept: ", " → text FIN mask ", ` 10 B "hello\x1b[31m"`, " ← text FIN 10 B ",
		"done (count): 2 frames of 1 connections, 0 left out\n",
	} {
		if !strings.Contains(words, want) {
			t.Errorf("no %q in\n%s", want, words)
		}
	}
	if strings.Contains(words, "\x1b") {
		t.Errorf("what a client says commands the terminal:\n%q", words)
	}
	end = begin("--json", "--path=/echo")
	talk()
	if out := end(); strings.Count(out, `"type":"frame"`) != 2 || !strings.HasPrefix(out, `{"type":"tap"`) {
		t.Errorf("JSON:\n%s", out)
	}
	path := filepath.Join(t.TempDir(), "capture.pcapng")
	end = begin("--write", path)
	talk()
	end()
	b, err := os.ReadFile(path)
	if info, _ := os.Stat(path); err != nil || !bytes.HasPrefix(b, []byte{0x0a, 0x0d, 0x0d, 0x0a}) || !bytes.Contains(b, []byte("GET /echo")) || info.Mode().Perm() != 0o600 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--address=1.2.3"}, 1, "address"},
		{[]string{"--payload-bytes=-2"}, 1, "payload_bytes"},
		{[]string{"--url=http://" + p.public}, 1, "is not that of a millpond that can tap"},
		{[]string{"--json", "--write=x"}, 2, "can't be used together"},
	} {
		var out, errs strings.Builder
		if code := run(t.Context(), append([]string{"tap", internal}, c.args...), &out, &errs); code != c.code || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%v: %d %s", c.args, code, errs.String())
		}
	}
}

// Each kind of line has its words, and colours on a terminal.
func TestTapLines(t *testing.T) {
	const lines = `{"type":"who","connection":"a","user":"ada","client":"c1"}
{"type":"who","connection":"a","client":"a"}
{"type":"frame","connection":"a","from":"server","fin":false,"rsv":5,"opcode":3,"name":"reserved","masked":false,"length":3,"data":"AAEC"}
{"type":"frame","connection":"a","from":"client","fin":true,"rsv":4,"opcode":1,"name":"text","masked":true,"mask":"01020304","length":3,"data":"AAEC","message":{"length":9,"text":"inflated!"}}
{"type":"frame","connection":"a","from":"client","fin":true,"rsv":0,"opcode":1,"name":"text","masked":true,"mask":"01020304","length":3,"hidden":3,"text":"","cut":true,"joined":true}
{"type":"frame","connection":"a","from":"client","fin":true,"rsv":0,"opcode":8,"name":"close","masked":true,"mask":"01020304","length":5,"code":4001,"reason":"bye"}
{"type":"gap","connection":"a","from":"server","frames":3,"bytes":99}
{"type":"fault","connection":"a","from":"client","kind":"mask_missing","code":1002,"reason":"no mask"}
{"type":"end","connection":"a","kind":"protocol_error","code":1002}
{"type":"done","reason":"count","frames":4,"dropped":3,"connections":1}
`
	var out, errs bytes.Buffer
	if err := printLines(strings.NewReader(lines), &streams{out: &out, err: &errs}); err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(&out)
	for _, want := range []string{
		`known as user "ada" client "c1"`, "known as nobody", "← reserved 0x3 RSV1 RSV3 3 B 00 01 02", `→ text FIN RSV1 mask 01020304 3 B inflated 9 B "inflated!"`,
		"→ text FIN mask 01020304 3 B … 3 B not shown (earlier frames of the message, in one) (cut)", `→ close FIN mask 01020304 5 B 4001 "bye"`,
		"← left out: 3 frames with 99 bytes", "→ FAULT mask_missing: no mask (closed with 1002)", "end: protocol_error 1002",
		"done (count): 4 frames of 1 connections, 3 left out",
	} {
		if !scanner.Scan() || !strings.HasSuffix(scanner.Text(), want) {
			t.Errorf("%q, want %q", scanner.Text(), want)
		}
	}
	p := &printer{out: &out, colour: true}
	if err := p.line(&push.TapLine{Type: "end", Kind: "peer_gone"}); err != nil || !strings.Contains(out.String(), "\x1b[2mend: peer_gone\x1b[0m") {
		t.Errorf("%q", out.String())
	}
	if err := printLines(strings.NewReader(fmt.Sprintln(`{"type":"gap"`)), &streams{out: &out, err: &errs}); err == nil {
		t.Error("no error for what is no JSON")
	}
	for _, kind := range []string{"tap", "frame", "gap", "done"} {
		if err := printLines(strings.NewReader(fmt.Sprintf("{\"type\":%q}\n", kind)), &streams{out: &out, err: &errs}); err == nil || !strings.Contains(err.Error(), "missing") {
			t.Errorf("%s without anything: %v", kind, err)
		}
	}
	// A server is no more trusted with the terminal than a client.
	const evil = `\u001b[2J\n\u202e`
	const all = `"connection":"` + evil + `","filter":"` + evil + `","path":"` + evil + `","remote":"` + evil + `","client_address":"` + evil + `","name":"` + evil +
		`","mask":"` + evil + `","kind":"` + evil + `","reason":"` + evil + `","user":"` + evil + `","client":"` + evil + `","request":"` + evil + `","extensions":"` + evil +
		`","text":"` + evil + `","fin":true,"rsv":0,"opcode":1,"masked":true,"length":1,"payload_bytes":0,"frames":1,"bytes":1,"dropped":1,"connections":1`
	out.Reset()
	for _, kind := range []string{"tap", "open", "who", "frame", "gap", "fault", "end", evil, `frame","message":{"error":"` + evil + `"},"from":"server`, "done"} {
		_ = printLines(strings.NewReader(`{"type":"`+kind+`",`+all+"}\n"), &streams{out: &out, err: &errs})
	}
	if printed := out.String(); strings.ContainsAny(printed, "\x1b\u202e") || strings.Count(printed, "\n") != 12 { // the opening has three
		t.Errorf("%d lines: %q", strings.Count(printed, "\n"), printed)
	}
	if err := printLines(strings.NewReader(""), &streams{out: &out, err: &errs}); err == nil {
		t.Error("no error for an end without a word")
	}
}
