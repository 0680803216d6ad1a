package provider

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"
)

// Repeatable says whether a call may be made twice: then an answer that is lost is Busy, not Unknown.
type Repeatable bool

// MaxAnswer is how many bytes of an answer are read: hundreds of signatures with their certificates.
const MaxAnswer = 8 << 20

// Call makes one HTTP request to a provider and reads the answer. Its errors follow from whether the
// request had begun to leave: before, nothing was taken (Busy); after, nobody knows (Unknown), unless the
// call may be repeated. An answer with status 408, 429 or 5xx says nothing of what was done before: whoever stands
// between us and the provider gives it too, after it has handed the request on and got no answer. What the provider
// itself says in its own words is in the body, which goes with the error for who can read it. Other statuses are the
// caller's to read. spec: RFC9110 §15.6, RFC6585 §4
//
// The client must not follow redirects (see NewHTTPClient): a redirect would send the factors elsewhere.
func Call(client *http.Client, req *http.Request, again Repeatable) (status int, body []byte, err error) {
	var left atomic.Bool
	trace := &httptrace.ClientTrace{
		WroteHeaders: func() { left.Store(true) },
		WroteRequest: func(httptrace.WroteRequestInfo) { left.Store(true) },
	}
	ctx := httptrace.WithClientTrace(req.Context(), trace)
	resp, err := client.Do(req.WithContext(ctx))
	if err != nil {
		return 0, nil, lost(left.Load() && !bool(again), err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, MaxAnswer+1))
	if err == nil && len(body) > MaxAnswer {
		err = errors.New("answer larger than 8 MiB")
	}
	if err != nil {
		return resp.StatusCode, nil, lost(!bool(again), err)
	}
	switch s := resp.StatusCode; {
	case s == http.StatusRequestTimeout || s == http.StatusTooManyRequests || s/100 == 5:
		e := lost(!bool(again), errors.New("HTTP "+strconv.Itoa(s)))
		if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
			e.RetryAfter = min(time.Duration(n)*time.Second, time.Hour)
		}
		return s, body, e
	}
	return resp.StatusCode, body, nil
}

func lost(unknown bool, cause error) *Error {
	if unknown {
		return Errorf(Unknown, OutcomeUnknown, "the provider's answer was lost: it is not known whether it did what it was asked").With(cause)
	}
	return Errorf(Busy, Away, "the provider does not answer: try again").With(cause)
}

// Unreadable is the error for an answer that came whole and is not what public material says: Unknown,
// unless the call may be repeated and changes nothing.
func Unreadable(again Repeatable, format string, a ...any) *Error {
	if again {
		return Errorf(Refused, AnswerUnreadable, format, a...)
	}
	return Errorf(Unknown, OutcomeUnknown, format, a...)
}

// keepIdle is how long a connection waits for the next call. It is short, for a call on a connection that
// the other side has just closed is lost after it left: Unknown, for nothing.
const keepIdle = 2 * time.Second

// NewHTTPClient is a client for one provider; timeout is that of one call.
func NewHTTPClient(security *tls.Config, timeout time.Duration) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: security, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 16, IdleConnTimeout: keepIdle, TLSHandshakeTimeout: timeout,
		},
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Each signs hash after hash for providers that take one a call, and stops at the first that is not signed.
func Each(ctx context.Context, hashes []Hash, sign func(context.Context, Hash) ([]byte, error)) ([][]byte, error) {
	made := make([][]byte, 0, len(hashes))
	for _, h := range hashes {
		if err := ctx.Err(); err != nil { // between two calls nothing is under way
			return made, Errorf(Busy, Away, "the time for this call was over before hash %d of %d: ask for the rest again", len(made)+1, len(hashes)).With(err)
		}
		s, err := sign(ctx, h)
		if err != nil {
			return made, err
		}
		made = append(made, s)
	}
	return made, nil
}
