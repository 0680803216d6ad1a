package tsp

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
	"time"

	"ceralacca.dev/services/format/cms"
)

// RefusedError: the authority answered that it will not stamp. Asking again without changing
// anything is of no use, save for timeNotAvailable and systemFailure.
type RefusedError struct {
	Status   Status
	Text     []string
	Failures []Failure
}

func (e *RefusedError) Error() string {
	s := "tsp: refused: " + e.Status.String()
	for _, f := range e.Failures {
		s += ", " + f.String()
	}
	if len(e.Text) > 0 {
		s += ": " + strings.Join(e.Text, "; ")
	}
	return s
}

// Temporary says that a later try may succeed.
func (e *RefusedError) Temporary() bool {
	for _, f := range e.Failures {
		if f == FailTimeNotAvailable || f == FailSystemFailure {
			return true
		}
	}
	return e.Status == Waiting
}

// TransportError: the authority did not answer, or not with HTTP 200. Trying again is safe:
// a stamp that nobody received binds nobody.
type TransportError struct {
	Status int // HTTP status, 0 when there was no answer
	Err    error
}

func (e *TransportError) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("tsp: authority answered HTTP %d", e.Status)
	}
	return fmt.Sprintf("tsp: authority did not answer: %v", e.Err)
}

func (e *TransportError) Unwrap() error { return e.Err }

// Fault names the check that a token failed.
type Fault string

// The checks of a token.
const (
	FaultMalformed Fault = "malformed"
	FaultImprint   Fault = "imprint"
	FaultNonce     Fault = "nonce"
	FaultPolicy    Fault = "policy"
	FaultTime      Fault = "time"
	FaultSignature Fault = "signature"
	FaultUsage     Fault = "usage"
	FaultESS       Fault = "signing-certificate"
	FaultTrust     Fault = "trust"
)

// TokenError: there is a token, and it does not hold.
type TokenError struct {
	Fault  Fault
	Reason string
}

func (e *TokenError) Error() string { return fmt.Sprintf("tsp: token: %s: %s", e.Fault, e.Reason) }

func faulty(f Fault, format string, args ...any) error {
	return &TokenError{f, fmt.Sprintf(format, args...)}
}

// VerifyOptions says what a token is to be checked against. Digest is required.
type VerifyOptions struct {
	Digest        []byte                // of the stamped bytes, by the hash in the token
	Nonce         *big.Int              // nil: not checked
	Policy        asn1.ObjectIdentifier // nil: any
	Roots         *x509.CertPool        // nil: trust is not judged
	At            time.Time             // time for the chain; zero: the token's own time
	Intermediates []*x509.Certificate   // also the authority's certificate when the token has none
}

// Verify makes every check of RFC 3161 §2.2 on the token. Errors: *TokenError.
func (t *Token) Verify(o VerifyOptions) error {
	if !bytes.Equal(t.Info.Digest, o.Digest) {
		return faulty(FaultImprint, "it stamps other bytes than these")
	}
	if o.Nonce != nil && (t.Info.Nonce == nil || t.Info.Nonce.Cmp(o.Nonce) != 0) {
		return faulty(FaultNonce, "it does not repeat the request's nonce")
	}
	if o.Policy != nil && !t.Info.Policy.Equal(o.Policy) {
		return faulty(FaultPolicy, "policy is %v, %v was asked for", t.Info.Policy, o.Policy)
	}
	if len(t.Signed.Signers) != 1 {
		return faulty(FaultMalformed, "%d signatures, exactly 1 is expected", len(t.Signed.Signers))
	}
	at := o.At
	if at.IsZero() {
		at = t.Info.Time
	}
	report := t.Signed.Verify(cms.VerifyOptions{
		Roots: o.Roots, Intermediates: o.Intermediates, At: at, RequireESS: true,
		ExtKeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
	}).Signers[0]
	for _, c := range []struct {
		fault Fault
		check cms.Check
	}{
		{FaultSignature, report.Signature}, {FaultSignature, report.Digest}, {FaultSignature, report.ContentType},
		{FaultESS, report.ESS}, {FaultUsage, report.KeyUsage}, {FaultTrust, report.Trust},
	} {
		if c.check.Verdict == cms.Failed {
			return faulty(c.fault, "%s", c.check.Reason)
		}
	}
	if err := checkUsage(report.Certificate); err != nil {
		return err
	}
	if c := report.Certificate; t.Info.Time.Before(c.NotBefore) || t.Info.Time.After(c.NotAfter) {
		return faulty(FaultTime, "%s is outside the validity of the authority's certificate", t.Info.Time.Format(time.RFC3339))
	}
	return nil
}

// Certificate is the authority's, when the token carries it.
func (t *Token) Certificate() *x509.Certificate {
	if len(t.Signed.Signers) != 1 {
		return nil
	}
	return t.Signed.Signers[0].Certificate(t.Signed.Certificates)
}

var oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}

// checkUsage: spec: RFC3161 §2.3 (extended key usage timeStamping, alone and critical)
func checkUsage(cert *x509.Certificate) error {
	if len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping || len(cert.UnknownExtKeyUsage) > 0 {
		return faulty(FaultUsage, "extended key usage of the authority's certificate is not timeStamping alone")
	}
	for _, e := range cert.Extensions {
		if e.Id.Equal(oidExtKeyUsage) && e.Critical {
			return nil
		}
	}
	return faulty(FaultUsage, "extended key usage of the authority's certificate is not critical")
}
