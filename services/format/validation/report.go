package validation

import (
	"crypto/x509"
	"time"
)

// Verdict is the main indication. spec: EN319102-1 §5.1.3 table 5
type Verdict string

// The three indications.
const (
	Passed        Verdict = "total-passed"
	Indeterminate Verdict = "indeterminate"
	Failed        Verdict = "total-failed"
)

// Sub is the sub-indication; empty with Passed. spec: EN319102-1 §5.1.3 table 6
type Sub string

// The sub-indications that this package gives.
const (
	FormatFailure          Sub = "FORMAT_FAILURE"
	HashFailure            Sub = "HASH_FAILURE"
	SigCryptoFailure       Sub = "SIG_CRYPTO_FAILURE"
	Revoked                Sub = "REVOKED"
	Expired                Sub = "EXPIRED"
	NotYetValid            Sub = "NOT_YET_VALID"
	SigConstraints         Sub = "SIG_CONSTRAINTS_FAILURE"
	ChainConstraints       Sub = "CHAIN_CONSTRAINTS_FAILURE"
	ChainGeneral           Sub = "CERTIFICATE_CHAIN_GENERAL_FAILURE"
	CryptoConstraints      Sub = "CRYPTO_CONSTRAINTS_FAILURE"
	CryptoConstraintsNoPOE Sub = "CRYPTO_CONSTRAINTS_FAILURE_NO_POE"
	NoSigningCertificate   Sub = "NO_SIGNING_CERTIFICATE_FOUND"
	NoChain                Sub = "NO_CERTIFICATE_CHAIN_FOUND"
	RevokedNoPOE           Sub = "REVOKED_NO_POE"
	RevokedCANoPOE         Sub = "REVOKED_CA_NO_POE"
	OutOfBoundsNoPOE       Sub = "OUT_OF_BOUNDS_NO_POE"
	OutOfBoundsNotRevoked  Sub = "OUT_OF_BOUNDS_NOT_REVOKED"
	TryLater               Sub = "TRY_LATER"
	SignedDataNotFound     Sub = "SIGNED_DATA_NOT_FOUND"
	Generic                Sub = "GENERIC"
)

// Conclusion is a verdict with its reason. Reason is English; Text gives the sentence for the
// sub-indication in both languages.
type Conclusion struct {
	Verdict Verdict `json:"verdict"`
	Sub     Sub     `json:"sub_indication,omitempty"`
	Reason  string  `json:"reason,omitempty"`
}

// Report is what is true of one file. The verdict is that of the worst signature.
type Report struct {
	Conclusion
	Kind       string      `json:"kind"` // see the Kind constants
	At         time.Time   `json:"at"`   // the time of judgement
	Signatures []Signature `json:"signatures,omitempty"`
	// Stamps are those of the file as a whole: of a .tsr, .tsd or .m7m, and document time-stamps.
	Stamps []Stamp `json:"time_stamps,omitempty"`
	// Content is what was signed or stamped, out of all envelopes; nil when it is not in the file.
	Content []byte `json:"-"`
	// Extracted is the same where the file lies, of ValidateSource; it can be read as long as the file can.
	Extracted Source `json:"-"`
	// Given: it is what the caller gave beside the file.
	Given    bool     `json:"-"`
	Warnings []string `json:"warnings,omitempty"`
}

// Kinds of file.
const (
	KindCAdES = "CAdES"
	KindXAdES = "XAdES"
	KindPAdES = "PAdES"
	KindTSR   = "time-stamp"
	KindTSD   = "time-stamped data"
	KindM7M   = "M7M"
)

// Person is who a certificate is about.
type Person struct {
	Name         string `json:"name"`         // common name, else the whole subject
	ID           string `json:"id,omitempty"` // serialNumber of the subject, such as TINIT-...
	Organization string `json:"organization,omitempty"`
	Country      string `json:"country,omitempty"`
	Subject      string `json:"subject"`
	Issuer       string `json:"issuer"`
	Serial       string `json:"serial"` // of the certificate, hexadecimal
}

// Link is one certificate of a chain, the signer's first.
type Link struct {
	Subject    string    `json:"subject"`
	NotBefore  time.Time `json:"not_before"`
	NotAfter   time.Time `json:"not_after"`
	Anchor     bool      `json:"anchor,omitempty"`
	Revocation string    `json:"revocation,omitempty"` // good, revoked, suspended, unknown; empty for an anchor
	Source     string    `json:"source,omitempty"`     // of that knowledge: CRL or OCSP, with its time
	RevokedAt  time.Time `json:"revoked_at,omitzero"`
}

// Check is the outcome of one thing that was looked at.
type Check struct {
	Name    string `json:"name"`
	Outcome string `json:"outcome"` // passed, failed, not-judged
	Reason  string `json:"reason,omitempty"`
}

// Algorithm is one primitive with what the policy says of it.
type Algorithm struct {
	Use   string    `json:"use"`  // digest, signature, key of ...
	Name  string    `json:"name"` // such as SHA-256, RSA-3072
	Until time.Time `json:"until,omitzero"`
	OK    bool      `json:"ok"` // at the time that it was judged for
}

// Stamp is one time-stamp with its own conclusion.
type Stamp struct {
	Conclusion
	Kind      string    `json:"kind"` // signature, document, content, file
	Time      time.Time `json:"time,omitzero"`
	Authority string    `json:"authority,omitempty"`
	Chain     []Link    `json:"chain,omitempty"`
	Qualified string    `json:"qualified"` // yes, no, or undetermined when no trusted list was given
}

// Qualification is what trusted lists make of a certificate. spec: TS119615 §4.4
type Qualification struct {
	// Result: "qualified signature", "qualified seal", "advanced signature with a qualified
	// certificate", "advanced seal with a qualified certificate", "not qualified", or
	// "undetermined".
	Result  string `json:"result"`
	Reason  string `json:"reason,omitempty"`
	Service string `json:"service,omitempty"` // of the trusted list
	Country string `json:"country,omitempty"`
}

// Signature is what is true of one signature.
type Signature struct {
	Conclusion
	Form  string `json:"form"` // CAdES, XAdES, PAdES
	Layer int    `json:"layer,omitempty"`
	Field string `json:"field,omitempty"` // of a PDF
	// CounterSigns is the number, from 1, of the signature in this report that this one is over, 0 when it
	// is over a document. Anybody can add a counter-signature, so it does not count for the verdict of
	// the file.
	CounterSigns int `json:"counter_signs,omitempty"`
	// Level is how far the signature goes by its parts, such as CAdES-BES or PAdES-B-LT.
	Level     string    `json:"level,omitempty"`
	Integrity bool      `json:"integrity"` // what was signed and the signature value are whole
	Signer    *Person   `json:"signer,omitempty"`
	Claimed   time.Time `json:"claimed_time,omitzero"` // stated by the signer, proves nothing
	// BestTime is when the signature is proven to have existed: the earliest stamp that passed,
	// else the time of judgement. Proven tells the two apart.
	BestTime      time.Time     `json:"best_signature_time,omitzero"`
	Proven        bool          `json:"proven"`
	Chain         []Link        `json:"chain,omitempty"`
	Stamps        []Stamp       `json:"time_stamps,omitempty"`
	Algorithms    []Algorithm   `json:"algorithms,omitempty"`
	Checks        []Check       `json:"checks,omitempty"`
	Qualification Qualification `json:"qualification"`
	Warnings      []string      `json:"warnings,omitempty"`

	Certificate *x509.Certificate `json:"-"`
}

func passed() Conclusion { return Conclusion{Verdict: Passed} }

func failed(s Sub, reason string) Conclusion { return Conclusion{Failed, s, reason} }

func unsure(s Sub, reason string) Conclusion { return Conclusion{Indeterminate, s, reason} }

// worse gives the weight of a verdict.
func (c Conclusion) weight() int {
	switch c.Verdict {
	case Passed:
		return 0
	case Failed:
		return 2
	}
	return 1
}

// conclude takes the worst of signatures and, where there is none, of stamps. Stamps beside
// signatures count in the signatures.
func (r *Report) conclude() {
	if r.Verdict != "" {
		return
	}
	r.Conclusion = passed()
	for i := range r.Signatures {
		if c := r.Signatures[i].Conclusion; r.Signatures[i].CounterSigns == 0 && c.weight() > r.weight() {
			r.Conclusion = c
		}
	}
	for i := range r.Stamps {
		c := r.Stamps[i].Conclusion
		if (len(r.Signatures) == 0 || c.Verdict == Failed) && c.weight() > r.weight() {
			r.Conclusion = c
		}
	}
}
