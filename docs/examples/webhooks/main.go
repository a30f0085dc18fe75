// Command webhooks is a backend that millpond asks: who its clients are, what they may subscribe to and publish, and
// what the answer to a call is.
//
//	export WEBHOOK_SECRET=$(openssl rand -hex 32)
//	go run ./docs/examples/webhooks
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/millpond/millpond/push/webhook/sign"
)

// question is what millpond sends; each event has some of it.
type question struct {
	Client  string          `json:"client"`
	User    string          `json:"user"`
	Channel string          `json:"channel"`
	Method  string          `json:"method"`
	Data    json.RawMessage `json:"data"`
}

// object is any JSON object.
type object = map[string]any

// answers are by the path of the request: {"result":…}, {"error":…} or {"disconnect":…}.
var answers = map[string]func(r *http.Request, q question) object{
	"/connect": func(r *http.Request, _ question) object {
		session, err := r.Cookie("session") // look it up where your sessions are
		if err != nil {
			return object{"disconnect": object{"code": 4501, "reason": "log in first"}}
		}
		return object{"result": object{
			"user": session.Value, "info": object{"name": strings.ToUpper(session.Value)}, "expire_at": time.Now().Add(5 * time.Minute).Unix(),
		}}
	},
	"/refresh": func(*http.Request, question) object {
		return object{"result": object{"expire_at": time.Now().Add(5 * time.Minute).Unix()}}
	},
	"/subscribe": func(_ *http.Request, q question) object {
		if !strings.HasPrefix(q.Channel, "room:") {
			return object{"error": object{"code": 403, "message": "not yours"}}
		}
		return object{"result": object{"data": object{"topic": "ponds"}}}
	},
	"/publish": func(_ *http.Request, q question) object {
		return object{"result": object{"data": object{"by": q.User, "text": q.Data}}} // or {} for the client's own data
	},
	"/rpc": func(_ *http.Request, q question) object {
		if q.Method != "time" {
			return object{"error": object{"code": 404, "message": "no such method"}}
		}
		return object{"result": object{"data": time.Now().UTC().Format(time.RFC3339)}}
	},
}

// backend answers questions that are signed with the secret.
func backend(secret []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := answers[r.URL.Path]
		if answer == nil {
			http.NotFound(w, r)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err == nil {
			err = sign.Verify(secret, r.Header.Get(sign.Header), body, time.Now(), 5*time.Minute)
		}
		var q question
		if err == nil {
			err = json.Unmarshal(body, &q)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(answer(r, q))
	})
}

func main() {
	secret := []byte(os.Getenv("WEBHOOK_SECRET"))
	if err := sign.CheckSecret(secret); err != nil {
		log.Fatal("WEBHOOK_SECRET: ", err)
	}
	server := &http.Server{Addr: "127.0.0.1:3000", Handler: backend(secret), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}
