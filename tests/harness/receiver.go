package harness

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Receiver is a customer's webhook endpoint. It counts what it takes by webhook-id and believes nothing
// whose signature is not right. spec: standardwebhooks 1.0.0
type Receiver struct {
	URL    string
	server *http.Server

	known chan struct{} // closed when the secret is

	mu     sync.Mutex
	secret string
	taken  map[string]int // webhook-id -> times
	types  map[string]string
	data   map[string]map[string]any // webhook-id -> what it says
	forged int
	fail   func(n int) bool // refuse the n-th call
	lose   func(n int) bool // take the n-th call and let nobody know
	calls  int
}

// NewReceiver listens on loopback.
func NewReceiver() (*Receiver, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Receiver{URL: "http://" + listener.Addr().String() + "/hook", known: make(chan struct{}), taken: map[string]int{}, types: map[string]string{}, data: map[string]map[string]any{}}
	r.server = &http.Server{Handler: http.HandlerFunc(r.take), ReadTimeout: 10 * time.Second}
	go func() { _ = r.server.Serve(listener) }() // ends with Close
	return r, nil
}

// Close stops listening.
func (r *Receiver) Close() { _ = r.server.Close() }

// SetSecret is called once, with what CreateWebhookEndpoint answered. The first call may come before that answer is
// read, and waits for it.
func (r *Receiver) SetSecret(secret string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secret = secret
	close(r.known)
}

// Refuse makes the endpoint answer 503 to the calls for which fn says so; calls are counted from 1.
func (r *Receiver) Refuse(fn func(n int) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = fn
}

// Lose makes the endpoint take the calls for which fn says so and cut the connection instead of answering.
func (r *Receiver) Lose(fn func(n int) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lose = fn
}

// Taken gives how often each event came, by webhook-id, and how many calls were not signed rightly.
func (r *Receiver) Taken() (byID map[string]int, types map[string]string, forged int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	byID, types = map[string]int{}, map[string]string{}
	for id, n := range r.taken {
		byID[id], types[id] = n, r.types[id]
	}
	return byID, types, r.forged
}

// Said gives what the events of a type say, in no order.
func (r *Receiver) Said(kind string) (data []map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, t := range r.types {
		if t == kind {
			data = append(data, r.data[id])
		}
	}
	return data
}

func (r *Receiver) take(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	select {
	case <-r.known:
	case <-req.Context().Done():
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	id := req.Header.Get("webhook-id")
	switch {
	case err != nil || !r.genuine(req.Header, body):
		r.forged++
		w.WriteHeader(http.StatusUnauthorized)
		return
	case r.fail != nil && r.fail(r.calls):
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var event struct {
		Type string         `json:"type"`
		Data map[string]any `json:"data"`
	}
	_ = json.Unmarshal(body, &event) // an unreadable body shows as an empty type
	r.taken[id]++
	r.types[id], r.data[id] = event.Type, event.Data
	if r.lose != nil && r.lose(r.calls) {
		panic(http.ErrAbortHandler) // net/http cuts the connection and says nothing
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *Receiver) genuine(h http.Header, body []byte) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.secret, "whsec_"))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", h.Get("webhook-id"), h.Get("webhook-timestamp"), body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, got := range strings.Fields(h.Get("webhook-signature")) {
		if hmac.Equal([]byte(got), []byte(want)) {
			return true
		}
	}
	return false
}
