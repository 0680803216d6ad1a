package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/pec"
)

// maxInject bounds a message put into a mailbox, in base64.
const maxInject = 100 << 20

// settleTime bounds, in real time, how long a step of the clock waits for mail on its way.
const settleTime = 30 * time.Second

// pecError gives what is missing its status.
func pecError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pec.ErrNotFound):
		return &apiError{http.StatusNotFound, err.Error()}
	}
	return bad(err)
}

// controlPEC adds the calls about certified mail.
func (s *Server) controlPEC(handle func(pattern string, fn func(r *http.Request) (any, error))) {
	handle("GET /v1/pec/providers", func(*http.Request) (any, error) { return s.pec.Providers(), nil })
	handle("POST /v1/pec/providers/{id}", func(r *http.Request) (any, error) {
		var in client.PECProvider
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		out, err := s.pec.SetProvider(r.PathValue("id"), in)
		return out, pecError(err)
	})
	handle("GET /v1/pec/index.p7m", func(*http.Request) (any, error) {
		raw, err := s.pec.Index()
		return plain(raw), err
	})
	handle("GET /v1/pec/mailboxes", func(*http.Request) (any, error) { return s.pec.Mailboxes(), nil })
	handle("POST /v1/pec/mailboxes", func(r *http.Request) (any, error) {
		var in client.PECMailbox
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		out, err := s.pec.SetMailbox(in)
		return out, pecError(err)
	})
	handle("GET /v1/pec/mailboxes/{address}/messages", func(r *http.Request) (any, error) {
		out, err := s.pec.Messages(r.PathValue("address"))
		return out, pecError(err)
	})
	handle("POST /v1/pec/mailboxes/{address}/inject", func(r *http.Request) (any, error) {
		var in client.PECInject
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		return nil, pecError(s.pec.Inject(r.PathValue("address"), in))
	})
	handle("POST /v1/pec/mailboxes/{address}/uidvalidity", func(r *http.Request) (any, error) {
		return nil, pecError(s.pec.ChangeUIDValidity(r.PathValue("address")))
	})
	handle("POST /v1/pec/forge", func(r *http.Request) (any, error) {
		var in client.PECForge
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		return nil, pecError(s.pec.Forge(in))
	})
	handle("GET /v1/pec/messages/{id}/raw", func(r *http.Request) (any, error) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil {
			return nil, bad(fmt.Errorf("id %q is no number", r.PathValue("id")))
		}
		raw, err := s.pec.Raw(id)
		return plain(raw), pecError(err)
	})
	handle("GET /v1/pec/submissions", func(r *http.Request) (any, error) {
		return s.pec.Submissions(r.URL.Query().Get("from")), nil
	})
	handle("GET /v1/pec/submissions/{id}/raw", func(r *http.Request) (any, error) {
		raw, err := s.pec.Submitted(r.PathValue("id"))
		return plain(raw), pecError(err)
	})
}

// limitBodies bounds what a call may bring: messages are larger than orders.
func limitBodies(h http.Handler) http.Handler {
	small, large := http.MaxBytesHandler(h, 1<<20), http.MaxBytesHandler(h, maxInject)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/pec/") && strings.HasSuffix(r.URL.Path, "/inject") {
			large.ServeHTTP(w, r)
			return
		}
		small.ServeHTTP(w, r)
	})
}

// advance moves the clock from one notice of certified mail to the next and lets each arrive:
// what is carried over real connections has no virtual time to lose on its way.
func (s *Server) advance(ctx context.Context, d time.Duration) error {
	target := s.clock.Now().Add(d)
	for {
		settled, cancel := context.WithTimeout(ctx, settleTime)
		err := s.pec.Settle(settled)
		cancel()
		if err != nil {
			return err
		}
		next := s.pec.Next()
		if next.IsZero() || !next.Before(target) {
			break
		}
		if _, err := s.clock.Advance(max(next.Sub(s.clock.Now()), 0)); err != nil {
			return err
		}
	}
	if _, err := s.clock.Advance(max(target.Sub(s.clock.Now()), 0)); err != nil {
		return err
	}
	settled, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	return s.pec.Settle(settled)
}
