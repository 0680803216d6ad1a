// Package otp plays a provider of text messages, e-mails and push notifications: it takes messages over HTTP, as real ones
// do, and lets a test read what arrived instead of a telephone. It sends nothing anywhere, keeps
// messages in memory only, and refuses callers without its token.
package otp

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// Message is what was sent.
type Message struct {
	ID      string `json:"id"`
	To      string `json:"to"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
	// Data is for the program on the device, beside what a person reads: of a push notification.
	Data map[string]string `json:"data,omitempty"`
	At   time.Time         `json:"at"`
}

const (
	maxMessage = 16 << 10
	maxKept    = 1000
)

// Provider is an http.Handler: POST takes a message, GET ?to=ADDRESS gives those that arrived, the
// newest last. Both want the token.
type Provider struct {
	token string
	now   func() time.Time

	mu   sync.Mutex
	away int // answers to come that are 503
	kept []Message
	seen map[string]bool
}

// New makes a provider that knows one caller by its bearer token; now is time.Now when nil.
func New(token string, now func() time.Time) *Provider {
	if now == nil {
		now = time.Now
	}
	return &Provider{token: token, now: now, seen: map[string]bool{}}
}

// GoAway makes the next n answers 503.
func (p *Provider) GoAway(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = n
}

// Sent is what arrived for an address, the newest last.
func (p *Provider) Sent(to string) []Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []Message{}
	for _, m := range p.kept {
		if m.To == to {
			out = append(out, m)
		}
	}
	return out
}

// ServeHTTP answers as a provider does: 202 for a message that it has taken, 422 for an address that is
// none (one that ends in 0000000), 401 without the token, 503 when it was told to be away.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+p.token {
		http.Error(w, "sandbox otp: the token is missing or another", http.StatusUnauthorized)
		return
	}
	switch r.Method {
	case http.MethodGet:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(p.Sent(r.URL.Query().Get("to"))) // the caller is gone when this fails
	case http.MethodPost:
		var m Message
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxMessage)).Decode(&m); err != nil || m.To == "" || m.Text == "" || m.ID == "" {
			http.Error(w, `sandbox otp: {"id", "to", "subject", "text"} is expected, in JSON`, http.StatusBadRequest)
			return
		}
		w.WriteHeader(p.take(m))
	default:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "sandbox otp: POST a message, or GET ?to=ADDRESS", http.StatusMethodNotAllowed)
	}
}

func (p *Provider) take(m Message) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	const none = "0000000"
	switch {
	case p.away > 0:
		p.away--
		return http.StatusServiceUnavailable
	case len(m.To) > len(none) && m.To[len(m.To)-len(none):] == none:
		return http.StatusUnprocessableEntity
	case p.seen[m.ID]: // sent twice, delivered once
		return http.StatusAccepted
	}
	m.At = p.now()
	p.seen[m.ID] = true
	if p.kept = append(p.kept, m); len(p.kept) > maxKept {
		delete(p.seen, p.kept[0].ID)
		p.kept = p.kept[1:]
	}
	return http.StatusAccepted
}
