package cms

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// Verdict is the outcome of one check.
type Verdict string

// The three outcomes. NotJudged means that the caller gave nothing to judge by, or that the
// thing to judge is not in the file and need not be.
const (
	Passed    Verdict = "passed"
	Failed    Verdict = "failed"
	NotJudged Verdict = "not-judged"
)

// Check is one outcome with its reason; the reason is empty when there is nothing to say.
type Check struct {
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason,omitempty"`
}

func pass(format string, args ...any) Check { return Check{Passed, fmt.Sprintf(format, args...)} }
func fail(format string, args ...any) Check { return Check{Failed, fmt.Sprintf(format, args...)} }
func unjudged(format string, args ...any) Check {
	return Check{NotJudged, fmt.Sprintf(format, args...)}
}

// SignerReport is what is true of one signature.
type SignerReport struct {
	Certificate *x509.Certificate   `json:"-"` // nil when it is nowhere to be found
	Chain       []*x509.Certificate `json:"-"` // from the certificate to a root, when the chain passed
	SigningTime time.Time           `json:"signingTime"`
	Hash        string              `json:"hash"`      // of the content, e.g. "SHA-256"
	Algorithm   string              `json:"algorithm"` // of the signature, e.g. "RSA", "RSA-PSS", "ECDSA"
	ValueHash   string              `json:"-"`         // under the signature value, as Hash; empty when not supported

	Signature   Check `json:"signature"`          // the value verifies with the certificate's key
	Digest      Check `json:"digest"`             // the content is the one signed
	ContentType Check `json:"contentType"`        // attribute equals the type in the envelope
	ESS         Check `json:"signingCertificate"` // ESS signing-certificate (v2 or v1) names this certificate
	Time        Check `json:"time"`               // signing time there, not after At, inside the certificate's validity
	Trust       Check `json:"trust"`              // chain to Roots at At
	KeyUsage    Check `json:"keyUsage"`           // the certificate may make such signatures

	// Counter are the counter-signatures, in the order of SignerInfo.CounterSigners. Anybody can add one:
	// what is wrong with them says nothing of the signature, and Err passes over them.
	Counter  []SignerReport `json:"counterSignatures,omitempty"`
	Warnings []string       `json:"warnings,omitempty"`
}

// NamedCheck is a check with its name, for printing.
type NamedCheck struct {
	Name string
	Check
}

// Checks lists the checks in the order in which they are worth reading.
func (r *SignerReport) Checks() []NamedCheck {
	return []NamedCheck{
		{"signature", r.Signature}, {"digest", r.Digest}, {"content type", r.ContentType},
		{"signing certificate", r.ESS}, {"signing time", r.Time}, {"trust", r.Trust}, {"key usage", r.KeyUsage},
	}
}

// Intact says that the signature value and the content digest both verified.
func (r *SignerReport) Intact() bool {
	return r.Signature.Verdict == Passed && r.Digest.Verdict == Passed
}

// Err joins the failed checks, nil when none failed and the signature is intact.
func (r *SignerReport) Err() error {
	var bad []string
	for _, c := range r.Checks() {
		if c.Verdict == Failed {
			bad = append(bad, c.Name+": "+c.Reason)
		}
	}
	if len(bad) == 0 && r.Intact() {
		return nil
	}
	if len(bad) == 0 {
		bad = append(bad, "the signature could not be judged")
	}
	return fmt.Errorf("cms: %s", strings.Join(bad, "; "))
}

// Report is what is true of a SignedData.
type Report struct {
	Signers  []SignerReport `json:"signers"`
	Warnings []string       `json:"warnings,omitempty"`
	// ReadError is not nil when the content could not be read: the digests were not judged then.
	ReadError *ReadError `json:"-"`
}

// Err is nil when there is at least one signature and all of them hold.
func (r *Report) Err() error {
	if r.ReadError != nil {
		return r.ReadError
	}
	if len(r.Signers) == 0 {
		return fmt.Errorf("cms: the file holds no signature")
	}
	for i := range r.Signers {
		if err := r.Signers[i].Err(); err != nil {
			return fmt.Errorf("signature %d of %d: %w", i+1, len(r.Signers), err)
		}
	}
	return nil
}
