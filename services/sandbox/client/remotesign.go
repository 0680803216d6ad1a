package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// RemoteSign says where the providers of remote signatures listen.
type RemoteSign struct {
	ARSSURL string `json:"arss_url"` // Aruba's and Actalis' SOAP service
	SWSURL  string `json:"sws_url"`  // Namirial's
	CSC1URL string `json:"csc1_url"` // Cloud Signature Consortium, version 1
}

// RemoteHolderRequest enrols a holder with both providers, with a new key and certificate.
type RemoteHolderRequest struct {
	User       string `json:"user"`          // account (ARSS), device (SWS) and credentialID (CSC)
	PIN        string `json:"pin"`           // 8 digits
	CommonName string `json:"common_name"`   // in the certificate
	Key        string `json:"key,omitempty"` // "p256" (default), "rsa2048", "rsa3072"
	// Automatic makes a key that signs without one-time passwords: with its PIN alone, or (ARSS) for the delegate.
	Automatic bool `json:"automatic,omitempty"`
	// Qualified has the certificate say that it is qualified and its key in a QSCD. It says SANDBOX - NOT VALID too.
	Qualified bool `json:"qualified,omitempty"`
}

// RemoteHolder is a holder as enrolled, and what was signed with the key.
type RemoteHolder struct {
	User    string            `json:"user"`
	CertID  string            `json:"cert_id"`  // of ARSS
	CertPEM string            `json:"cert_pem"` // the holder's, then the authority's
	Locked  bool              `json:"locked"`
	Signed  []RemoteSignature `json:"signed"`
}

// RemoteSignature is one use of a key.
type RemoteSignature struct {
	SHA256 string    `json:"sha256"` // hexadecimal
	At     time.Time `json:"at"`
}

// RemoteOTP is a one-time password as the holder sees it.
type RemoteOTP struct {
	Kind     string `json:"kind"` // "APP", "SMS", "ARUBACALL", "PUSH"
	Password string `json:"password"`
}

// Kinds of RemoteFault.
const (
	RemoteCutBefore = "cut_before"     // the connection ends before anything is done
	RemoteCutAfter  = "cut_after"      // what is asked for is done, and then the connection ends
	Remote500       = "http_500"       // a 500 before anything is done
	Remote500After  = "http_500_after" // what is asked for is done, and then a 500
	RemoteBusy      = "busy"           // the provider's own word for it: nothing was done
	Remote503       = "http_503"       // a bare 503 before anything is done
	Remote503After  = "http_503_after" // what is asked for is done, and then a bare 503
	RemoteDelay     = "delay"          // what is asked for is done after the delay
	RemoteGarbage   = "garbage"        // a 200 with a page that is no SOAP
	RemoteBadSig    = "bad_signature"
)

// RemoteFault is what goes wrong with calls to come.
type RemoteFault struct {
	Kind      string `json:"kind"`
	Operation string `json:"operation,omitempty"` // the SOAP operation, or the path of CSC such as signatures/signHash; "" is any
	Skip      int    `json:"skip,omitempty"`      // so many calls go well first
	Count     int    `json:"count,omitempty"`     // 0 is one
	DelayMS   int    `json:"delay_ms,omitempty"`
}

// EnrolRemote enrols a holder. The same user again is an error.
func (c *Client) EnrolRemote(ctx context.Context, r RemoteHolderRequest) (RemoteHolder, error) {
	var out RemoteHolder
	return out, c.do(ctx, http.MethodPost, "/v1/remotesign/holders", r, &out)
}

// RemoteHolder reads a holder.
func (c *Client) RemoteHolder(ctx context.Context, user string) (RemoteHolder, error) {
	var out RemoteHolder
	return out, c.do(ctx, http.MethodGet, "/v1/remotesign/holders/"+url.PathEscape(user), nil, &out)
}

// RemoteOTP looks at the holder's telephone: the password that was sent last by that kind, or, for APP, the
// one that the app shows now.
func (c *Client) RemoteOTP(ctx context.Context, user, kind string) (RemoteOTP, error) {
	var out RemoteOTP
	return out, c.do(ctx, http.MethodPost, "/v1/remotesign/holders/"+url.PathEscape(user)+"/otp?kind="+url.QueryEscape(kind), nil, &out)
}

// AddRemoteFault orders a fault.
func (c *Client) AddRemoteFault(ctx context.Context, f RemoteFault) error {
	return c.do(ctx, http.MethodPost, "/v1/remotesign/faults", f, nil)
}

// ClearRemoteFaults takes all faults back.
func (c *Client) ClearRemoteFaults(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, "/v1/remotesign/faults", nil, nil)
}
