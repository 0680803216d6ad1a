package client

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// A Client calls the control API of one sandbox. Safe for concurrent use.
type Client struct {
	base string
	http *http.Client
}

// New returns a client for a ControlURL, such as "http://127.0.0.1:4010".
func New(controlURL string) *Client {
	return &Client{base: controlURL, http: &http.Client{Timeout: 60 * time.Second}}
}

// StatusError is an answer that is not a success.
type StatusError struct {
	Method, Path string
	Status       int
	Message      string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("sandbox: %s %s: %d: %s", e.Method, e.Path, e.Status, e.Message)
}

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	raw, err := c.raw(ctx, method, path, in)
	if err != nil || out == nil {
		return err
	}
	err = json.Unmarshal(raw, out)
	if err != nil {
		return fmt.Errorf("sandbox: %s %s: unreadable answer: %w", method, path, err)
	}
	return nil
}

func (c *Client) raw(ctx context.Context, method, path string, in any) ([]byte, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("sandbox: %s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %s %s: %w", method, path, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("sandbox: %s %s: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		var e Error
		if json.Unmarshal(raw, &e) != nil || e.Message == "" {
			e.Message = string(raw)
		}
		return nil, &StatusError{Method: method, Path: path, Status: resp.StatusCode, Message: e.Message}
	}
	return raw, nil
}

// Ready returns nil when the sandbox answers.
func (c *Client) Ready(ctx context.Context) error {
	return c.do(ctx, http.MethodGet, "/v1/ready", nil, nil)
}

// Endpoints asks the sandbox where its simulators listen.
func (c *Client) Endpoints(ctx context.Context) (Endpoints, error) {
	var e Endpoints
	err := c.do(ctx, http.MethodGet, "/v1/endpoints", nil, &e)
	return e, err
}

// CAPEM is the sandbox authority's certificate.
func (c *Client) CAPEM(ctx context.Context) ([]byte, error) {
	return c.raw(ctx, http.MethodGet, "/v1/ca.pem", nil)
}

// CRL is the sandbox authority's list of revoked certificates, PEM: an empty one, of now.
func (c *Client) CRL(ctx context.Context) ([]byte, error) {
	return c.raw(ctx, http.MethodGet, "/v1/ca.crl", nil)
}

// Clock reads the virtual clock.
func (c *Client) Clock(ctx context.Context) (Clock, error) {
	var k Clock
	err := c.do(ctx, http.MethodGet, "/v1/clock", nil, &k)
	return k, err
}

// Advance moves the virtual clock and fires what falls due on the way.
func (c *Client) Advance(ctx context.Context, by time.Duration) (Clock, error) {
	var k Clock
	err := c.do(ctx, http.MethodPost, "/v1/clock/advance", Advance{By: by.String()}, &k)
	return k, err
}

// Freeze stops the virtual clock.
func (c *Client) Freeze(ctx context.Context) (Clock, error) {
	var k Clock
	err := c.do(ctx, http.MethodPost, "/v1/clock/freeze", struct{}{}, &k)
	return k, err
}

// Resume lets the virtual clock run on.
func (c *Client) Resume(ctx context.Context) (Clock, error) {
	var k Clock
	err := c.do(ctx, http.MethodPost, "/v1/clock/resume", struct{}{}, &k)
	return k, err
}

// Accredit enables a transmitter and returns its certificates and keys.
func (c *Client) Accredit(ctx context.Context, r AccreditationRequest) (Accreditation, error) {
	var a Accreditation
	err := c.do(ctx, http.MethodPost, "/v1/accreditations", r, &a)
	return a, err
}

// Accreditations lists the transmitters, without keys.
func (c *Client) Accreditations(ctx context.Context) ([]Accreditation, error) {
	var a []Accreditation
	err := c.do(ctx, http.MethodGet, "/v1/accreditations", nil, &a)
	return a, err
}

// SignCSR gets a certificate for a PKCS #10 request in DER.
func (c *Client) SignCSR(ctx context.Context, csrDER []byte, profile string) (Certificate, error) {
	var cert Certificate
	in := CertificateRequest{
		CSRPEM:  string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csrDER})),
		Profile: profile,
	}
	err := c.do(ctx, http.MethodPost, "/v1/certificates", in, &cert)
	return cert, err
}

// Received lists the files that SdI took.
func (c *Client) Received(ctx context.Context, q Query) (ReceivedPage, error) {
	v := url.Values{}
	for key, s := range map[string]string{
		"name": q.Name, "sha256": q.SHA256, "id": q.ID, "transmitter": q.Transmitter, "number": q.Number, "state": q.State,
	} {
		if s != "" {
			v.Set(key, s)
		}
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	var p ReceivedPage
	err := c.do(ctx, http.MethodGet, "/v1/received?"+v.Encode(), nil, &p)
	return p, err
}

// File is the bytes of a received file; the sandbox keeps the latest ones only.
func (c *Client) File(ctx context.Context, id string) ([]byte, error) {
	return c.raw(ctx, http.MethodGet, "/v1/received/"+url.PathEscape(id)+"/file", nil)
}

// Resend delivers all receipts of a file once more.
func (c *Client) Resend(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPost, "/v1/received/"+url.PathEscape(id)+"/resend", struct{}{}, nil)
}

// Counts sums up.
func (c *Client) Counts(ctx context.Context) (Counts, error) {
	var n Counts
	err := c.do(ctx, http.MethodGet, "/v1/counts", nil, &n)
	return n, err
}

// Duplicates lists what was submitted more than once; the judge of exactly-once.
func (c *Client) Duplicates(ctx context.Context) (Duplicates, error) {
	var d Duplicates
	err := c.do(ctx, http.MethodGet, "/v1/duplicates", nil, &d)
	return d, err
}

// AddFault orders a fault and returns it with its ID.
func (c *Client) AddFault(ctx context.Context, f Fault) (Fault, error) {
	var out Fault
	err := c.do(ctx, http.MethodPost, "/v1/faults", f, &out)
	return out, err
}

// Faults lists the faults that still have hits to give, and those spent.
func (c *Client) Faults(ctx context.Context) ([]Fault, error) {
	var out []Fault
	err := c.do(ctx, http.MethodGet, "/v1/faults", nil, &out)
	return out, err
}

// ClearFaults withdraws all faults.
func (c *Client) ClearFaults(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, "/v1/faults", nil, nil)
}

// Mail lists messages to a recipient ("" for all), oldest first, with their data.
func (c *Client) Mail(ctx context.Context, to string) ([]Mail, error) {
	var out []Mail
	err := c.do(ctx, http.MethodGet, "/v1/mail?to="+url.QueryEscape(to), nil, &out)
	return out, err
}

// ClearMail forgets all messages.
func (c *Client) ClearMail(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, "/v1/mail", nil, nil)
}

// Reset forgets received files, faults and mail. Accreditations, the clock and the sequence
// of identifiers stay.
func (c *Client) Reset(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/v1/reset", struct{}{}, nil)
}
