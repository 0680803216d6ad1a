package notification

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/notification/internal/db"
)

const (
	// maxAnswer is how much of an answer is read: it says nothing that we use, and reading it lets the
	// connection be used again.
	maxAnswer = 16 << 10
	userAgent = "ceralacca-webhooks/1"
)

// prepareWebhook reads the endpoint and its secrets.
func (s *Service) prepareWebhook(ctx context.Context, tx pgx.Tx, row db.Delivery) (func(context.Context) outcome, error) {
	e, err := q(tx).GetEndpoint(ctx, db.GetEndpointParams{TenantID: row.TenantID, ID: row.TargetID})
	if errors.Is(err, pgx.ErrNoRows) {
		return undeliverable("the endpoint was deleted"), nil
	}
	if err != nil {
		return nil, fmt.Errorf("notification: read endpoint %s: %w", row.TargetID, err)
	}
	if e.Disabled {
		return undeliverable("the endpoint is disabled"), nil
	}
	secrets, err := s.secretsOf(&e)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) outcome { return s.post(ctx, e.Url, secrets, row) }, nil
}

// secretsOf opens the secret of an endpoint and, for as long as it still signs, the one before.
func (s *Service) secretsOf(e *db.WebhookEndpoint) ([][]byte, error) {
	label := secretLabel(e.TenantID, e.ID)
	current, err := s.sealer.open(e.Secret, label)
	if err != nil {
		return nil, err
	}
	secrets := [][]byte{current}
	if e.PreviousSecret != nil && e.PreviousUntil != nil && s.now().Before(*e.PreviousUntil) {
		previous, err := s.sealer.open(e.PreviousSecret, label)
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, previous)
	}
	return secrets, nil
}

// post sends one webhook behind the breaker of its host.
func (s *Service) post(ctx context.Context, address string, secrets [][]byte, row db.Delivery) outcome {
	u, err := url.Parse(address)
	if err != nil {
		return outcome{final: true, attempt: attempt{Error: "the URL cannot be read"}}
	}
	var o outcome
	err = s.breaker("webhook "+u.Host).Do(ctx, func(ctx context.Context) error {
		var err error
		o, err = s.postOnce(ctx, address, secrets, row)
		return err
	})
	f := fault.Of(err)
	if f != nil && f.Code == "BREAKER_OPEN" {
		return outcome{heldBack: true, retryAfter: max(f.RetryAfter, time.Second)}
	}
	return o
}

// postOnce sends one webhook. The error is for the breaker only: Unavailable when the host does not
// answer or says that it cannot; what is wrong with this delivery alone is in the outcome.
func (s *Service) postOnce(ctx context.Context, address string, secrets [][]byte, row db.Delivery) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(row.Payload))
	if err != nil {
		return outcome{final: true, attempt: attempt{Error: "the URL cannot be called"}}, nil //nolint:nilerr // says nothing about the host
	}
	// spec: Standard Webhooks "Webhook metadata": the id is the same in every attempt, the time is the attempt's
	id, now := row.EventID.String(), s.now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("Webhook-Signature", signatures(secrets, id, now, row.Payload))
	resp, err := s.http.Do(req)
	if err != nil {
		why := explainTransport(err)
		return outcome{attempt: attempt{Error: why}}, fault.Unavailable("WEBHOOK_UNREACHABLE", "%s", why).With(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // the status is the answer
	o := outcome{attempt: attempt{Status: resp.StatusCode}, ok: resp.StatusCode/100 == 2}
	if o.ok {
		return o, nil
	}
	o.attempt.Error = fmt.Sprintf("the endpoint answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	o.retryAfter = retryAfter(resp.Header.Get("Retry-After"), now)
	switch {
	case resp.StatusCode == http.StatusGone:
		o.final, o.gone = true, true
	case resp.StatusCode/100 == 3:
		o.attempt.Error += ": redirects are not followed, give the final URL"
	case resp.StatusCode/100 == 5, resp.StatusCode == http.StatusTooManyRequests:
		return o, fault.Unavailable("WEBHOOK_UNAVAILABLE", "%s", o.attempt.Error)
	}
	return o, nil
}

// explainTransport says what went wrong without the URL, which may carry a token of the receiver.
func explainTransport(err error) string {
	var ue *url.Error
	if errors.As(err, &ue) {
		if ue.Timeout() {
			return "no answer in time"
		}
		err = ue.Err
	}
	return err.Error()
}

// signatures signs id, time and body with each secret. spec: Standard Webhooks "Signature scheme"
func signatures(secrets [][]byte, id string, at time.Time, body []byte) string {
	out := make([]string, len(secrets))
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
		mac.Write(body)
		out[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(out, " ")
}

// retryAfter reads seconds or a date; 0 when there is neither. spec: RFC 9110 §10.2.3
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(strings.TrimSpace(header), 10, 32); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
