package events_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/millpond/millpond/push/events"
	"github.com/millpond/millpond/push/webhook/sign"
)

// receiver is a backend's end. What it has handled should be kept where its effects are, in the same transaction.
type receiver struct {
	secret []byte

	mu      sync.Mutex
	handled map[string]uint64 // by node: the number of the last event
}

// ServeHTTP takes a batch.
func (rc *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 32<<20))
	if err != nil {
		return
	}
	if err := sign.Verify(rc.secret, r.Header.Get(sign.Header), body, time.Now(), 5*time.Minute); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	var batch events.Batch
	if err := json.Unmarshal(body, &batch); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	rc.mu.Lock() // an attempt that was given up may still be here
	defer rc.mu.Unlock()
	if batch.Lost > 0 {
		fmt.Println("events are lost: ask the API what is true now")
	}
	for _, e := range batch.Events {
		if e.Seq <= rc.handled[batch.Node] {
			continue // it came before
		}
		rc.handled[batch.Node] = e.Seq
		fmt.Println(e.Type, e.Channel, e.User)
	}
}

// Example_receiver is a backend that checks signatures and handles each event once.
func Example_receiver() {
	http.Handle("POST /events", &receiver{secret: []byte("…the line of --events-secret-file…"), handled: map[string]uint64{}})
	// _ = http.ListenAndServe("127.0.0.1:9000", nil)
}
