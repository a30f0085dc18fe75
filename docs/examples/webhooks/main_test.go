package main

import (
	"bufio"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/goccy/go-yaml"

	"github.com/millpond/millpond/internal/program"
	"github.com/millpond/millpond/push"
	"github.com/millpond/millpond/push/hub"
)

const secret = "0123456789abcdef0123456789abcdef"

// Both backends answer a server that is configured as the file here says.
func TestExample(t *testing.T) {
	t.Run("go", func(t *testing.T) {
		s := httptest.NewServer(backend([]byte(secret)))
		defer s.Close()
		try(t, s.URL)
	})
	t.Run("python", func(t *testing.T) {
		python := program.Find(t, "python3")
		command := exec.CommandContext(t.Context(), python, "backend.py")
		command.Env = append(os.Environ(), "WEBHOOK_SECRET="+secret, "PORT=0")
		command.Stderr = t.Output()
		out, err := command.StdoutPipe()
		if err == nil {
			err = command.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = command.Process.Kill(), command.Wait() }()
		url, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		try(t, strings.TrimSpace(url))
	})
}

// example is what of millpond.yaml is tried here.
type example struct {
	ConnectWebhook string `yaml:"connect_webhook"`
	RefreshWebhook string `yaml:"refresh_webhook"`
	RPCWebhook     string `yaml:"rpc_webhook"`
	Namespaces     []struct {
		Name             string `yaml:"name"`
		SubscribeWebhook string `yaml:"subscribe_webhook"`
		PublishWebhook   string `yaml:"publish_webhook"`
	} `yaml:"namespaces"`
	Webhooks []struct {
		Name        string   `yaml:"name"`
		Endpoint    string   `yaml:"endpoint"`
		HTTPHeaders []string `yaml:"http_headers"`
		SecretFile  string   `yaml:"secret_file"`
	} `yaml:"webhooks"`
}

func start(t *testing.T, url string) *push.Server {
	b, err := os.ReadFile("millpond.yaml")
	var e example
	if err == nil {
		err = yaml.UnmarshalWithOptions(b, &e, yaml.Strict())
	}
	if err != nil {
		t.Fatal(err)
	}
	c := push.Config{
		Listen: []string{"127.0.0.1:0"}, InternalListen: "127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Webhooks: push.Webhooks{Connect: e.ConnectWebhook, Refresh: e.RefreshWebhook, RPC: e.RPCWebhook},
	}
	for _, n := range e.Namespaces {
		c.Namespaces = append(c.Namespaces, push.Namespace{Name: n.Name, Options: hub.Options{SubscribeWebhook: n.SubscribeWebhook, PublishWebhook: n.PublishWebhook}})
	}
	for _, w := range e.Webhooks {
		c.Webhooks.Endpoints = append(c.Webhooks.Endpoints, push.Webhook{
			Name: w.Name, Endpoint: strings.Replace(w.Endpoint, "http://127.0.0.1:3000", url, 1), Timeout: 20 * time.Second,
			HTTPHeaders: w.HTTPHeaders, Secret: []byte(secret),
		})
	}
	s, err := push.New(c)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		_ = s.Shutdown(context.Background())
		<-served
	})
	return s
}

func try(t *testing.T, url string) {
	s := start(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dial := func(header http.Header) *websocket.Conn {
		c, _, err := websocket.Dial(ctx, "ws://"+s.Addrs()[0].String()+"/connection/websocket", &websocket.DialOptions{HTTPHeader: header})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.CloseNow() })
		return c
	}
	say := func(c *websocket.Conn, text string) {
		if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	stranger := dial(nil)
	say(stranger, `{"id":1,"connect":{}}`)
	if _, _, err := stranger.Read(ctx); websocket.CloseStatus(err) != 4501 {
		t.Errorf("without a session: %v", err)
	}
	c := dial(http.Header{"Cookie": {"session=ann"}})
	for _, tt := range []struct{ say, want string }{
		{`{"id":1,"connect":{}}`, `"connect":{"client":"[^"]+","version":"","ping":25,"pong":true}|"connect":{"client":"[^"]+","ping":25,"pong":true}`},
		{`{"id":2,"subscribe":{"channel":"room:1"}}`, `"subscribe":{"data":{"topic": ?"ponds"}}`},
		{`{"id":3,"rpc":{"method":"time"}}`, `"rpc":{"data":"20[0-9]{2}-.*Z"}`},
		{`{"id":4,"rpc":{"method":"weather"}}`, `"error":{"code":404,"message":"no such method"}`},
		{`{"id":5,"publish":{"channel":"room:1","data":"hello"}}`, `"data":{"by": ?"ann", ?"text": ?"hello"},"info":{"user":"ann","client":"[^"]+","conn_info":{"name": ?"ANN"}}`},
	} {
		say(c, tt.say)
		var got string
		for pattern := regexp.MustCompile(tt.want); !pattern.MatchString(got); {
			_, b, err := c.Read(ctx)
			if err != nil {
				t.Fatalf("%s: got %s, want %s: %v", tt.say, got, tt.want, err)
			}
			got += string(b)
		}
	}
}
