package sdi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// A Client calls one SOAP endpoint: SdI's RiceviFile or RiceviNotifica when the platform uses it, a
// transmitter's TrasmissioneFatture or a receiver's RicezioneFatture when the sandbox does. It never retries by itself: a
// repeated submission is the caller's decision. Safe for concurrent use.
type Client struct {
	HTTP     *http.Client // with the mutual-TLS transport; required
	URL      string
	Encoding Encoding // XOP unless told otherwise
	MaxBody  int64    // bytes of an answer; default 1 MiB
}

// A CallError is a call that did not end in a readable answer.
type CallError struct {
	Op     Operation
	Status int  // HTTP status, 0 when no answer came
	Sent   bool // bytes of the request may have reached the other side
	Err    error
}

func (e *CallError) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("sdi: %s: HTTP %d: %v", e.Op, e.Status, e.Err)
	}
	return fmt.Sprintf("sdi: %s: %v", e.Op, e.Err)
}

func (e *CallError) Unwrap() error { return e.Err }

// ErrHTTPStatus is wrapped by a CallError whose answer was neither an envelope nor success.
var ErrHTTPStatus = errors.New("unexpected HTTP status")

// Unknown says whether it is open if the other side took the file: bytes were sent and no
// verdict came back. Refusals before the service is reached (401, 403, 404, 405, 413, 415)
// and Client faults are verdicts; a timeout, a cut connection, a 5xx and an unreadable answer
// are not.
func (e *CallError) Unknown() bool {
	if !e.Sent {
		return false
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		return false
	}
	var f *Fault
	if errors.As(e.Err, &f) {
		return f.Code == "Server"
	}
	return true
}

// RiceviFile submits a file. A nil error means that an answer was read, not that the file was
// taken: look at Accepted and Errore. Otherwise the error is *CallError (use Unknown to learn
// whether the file may have arrived), or wraps ErrField when nothing was sent.
func (c *Client) RiceviFile(ctx context.Context, f FileSdIBase) (RispostaSdIRiceviFile, error) {
	p, err := EncodeRiceviFile(f, c.Encoding)
	if err != nil {
		return RispostaSdIRiceviFile{}, err
	}
	ctype, body, err := c.call(ctx, OpRiceviFile, &p)
	if err != nil {
		return RispostaSdIRiceviFile{}, err
	}
	r, err := DecodeRisposta(ctype, body)
	if err != nil {
		return RispostaSdIRiceviFile{}, &CallError{Op: OpRiceviFile, Status: http.StatusOK, Sent: true, Err: err}
	}
	return r, nil
}

// Notifica delivers one message to a transmitter. The operations are one-way: any 2xx status
// is a delivery.
func (c *Client) Notifica(ctx context.Context, op Operation, f FileSdI) error {
	p, err := EncodeNotifica(op, f, c.Encoding)
	if err != nil {
		return err
	}
	_, _, err = c.call(ctx, op, &p)
	return err
}

func (c *Client) call(ctx context.Context, op Operation, p *Payload) (string, []byte, error) {
	// A connection that was never obtained (refused, no route, TLS not agreed) carried nothing.
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, p.Reader())
	if err != nil {
		return "", nil, fmt.Errorf("sdi: %s: %w", op, err)
	}
	req.ContentLength = p.Len()
	// Replays the body only when the transport knows that nothing reached the server: an
	// idle connection that was closed before its first byte.
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(p.Reader()), nil }
	req.Header.Set("Content-Type", p.ContentType)
	req.Header.Set("SOAPAction", `"`+p.SOAPAction+`"`)
	req.Header.Set("Accept", "text/xml, multipart/related")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return "", nil, &CallError{Op: op, Sent: connected.Load(), Err: err}
	}
	defer resp.Body.Close()
	limit := c.MaxBody
	if limit <= 0 {
		limit = 1 << 20
	}
	body, err := ReadBody(resp.Body, resp.ContentLength, limit)
	if err != nil {
		return "", nil, &CallError{Op: op, Status: resp.StatusCode, Sent: true, Err: err}
	}
	ctype := resp.Header.Get("Content-Type")
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return ctype, body, nil
	}
	_, err = DecodeRisposta(ctype, body)
	var f *Fault
	if errors.As(err, &f) {
		return "", nil, &CallError{Op: op, Status: resp.StatusCode, Sent: true, Err: f}
	}
	return "", nil, &CallError{Op: op, Status: resp.StatusCode, Sent: true, Err: ErrHTTPStatus}
}
