package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// receiver is a customer's webhook endpoint, as the README of the notification service tells customers to
// write it: it checks the signature before it believes a word.
// spec: standardwebhooks 1.0.0, verifying webhook authenticity
type receiver struct {
	url    string
	secret string
	server *http.Server

	mu    sync.Mutex
	log   strings.Builder
	types map[string]bool
	wake  chan struct{}
}

func startReceiver() (*receiver, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{url: "http://" + listener.Addr().String() + "/hooks", types: map[string]bool{}, wake: make(chan struct{}, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /hooks", r.take)
	r.server = &http.Server{Handler: mux, ReadTimeout: 10 * time.Second}
	go func() { _ = r.server.Serve(listener) }() // ends with close
	return r, nil
}

func (r *receiver) close() { _ = r.server.Close() }

func (r *receiver) take(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil {
		http.Error(w, "body cannot be read", http.StatusBadRequest)
		return
	}
	err = r.check(req.Header, body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	var event struct {
		Type string `json:"type"`
	}
	err = json.Unmarshal(body, &event)
	if err != nil {
		http.Error(w, "body is no JSON", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
		fmt.Fprintf(&r.log, "%s: %s\n", name, req.Header.Get(name))
	}
	fmt.Fprintf(&r.log, "%s\n\n", body)
	r.types[event.Type] = true
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) check(h http.Header, body []byte) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.secret, "whsec_"))
	if err != nil {
		return errors.New("the secret cannot be read")
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", h.Get("webhook-id"), h.Get("webhook-timestamp"), body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, got := range strings.Fields(h.Get("webhook-signature")) {
		if hmac.Equal([]byte(got), []byte(want)) {
			return nil
		}
	}
	return errors.New("no signature is ours")
}

// await returns what came, once an event of the type has come.
func (r *receiver) await(ctx context.Context, kind string) (string, error) {
	for {
		r.mu.Lock()
		done, text := r.types[kind], r.log.String()
		r.mu.Unlock()
		if done {
			return text, nil
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return "", fmt.Errorf("no webhook %s came: %w", kind, ctx.Err())
		}
	}
}
