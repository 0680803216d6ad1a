// Package provider is the seam to those who hold signing keys outside the house: qualified trust service
// providers that sign at a distance. It owns the one interface that all of them are used by, the closed
// list of outcomes that a call can have, and the rules for what may be repeated after which.
//
// Only digests go out. A [Hash] is 32 bytes and there is nothing else in the interface that a document, or
// a piece of one, could be put into.
//
// It refuses to guess: an answer that was lost, or that is not understood, after the request had left is
// [Unknown], never a failure that invites a repeat. It does not keep, log or print PINs, passwords or
// grants, and it decides nothing about documents, formats or who may sign.
package provider

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"log/slog"
	"time"
)

// Hash is a SHA-256 digest of what is to be signed (the DTBS/R of EN 419 241-1): the signed attributes of
// a CMS, the SignedInfo of an XML signature.
type Hash [sha256.Size]byte

// Hashes makes Hash out of digests. Error: Refused HASH_INVALID for one that is not 32 bytes.
func Hashes(digests [][]byte) ([]Hash, error) {
	out := make([]Hash, len(digests))
	for i, d := range digests {
		if len(d) != sha256.Size {
			return nil, Errorf(Refused, HashInvalid, "digest %d has %d bytes: a SHA-256 digest has %d", i, len(d), sha256.Size)
		}
		out[i] = Hash(d)
	}
	return out, nil
}

// Credential names one key at a provider.
type Credential struct {
	// ID is the provider's name for the key: credentialID (CSC), certID (ARSS), device (SWS).
	ID string
	// User is the holder's account at the provider; empty where the ID is enough.
	User string
}

// Status of a key as the provider tells it.
type Status string

// What a provider can say of a key.
const (
	Enabled  Status = "ENABLED"
	Disabled Status = "DISABLED"
)

// OTPKind is how a one-time password reaches the holder.
type OTPKind string

// The ways. Only those for which Sent is true need SendOTP.
const (
	OTPSMS   OTPKind = "SMS"
	OTPEmail OTPKind = "EMAIL"
	OTPCall  OTPKind = "CALL"
	OTPPush  OTPKind = "PUSH"
	// OTPApp is an app or a token that shows passwords by itself.
	OTPApp OTPKind = "APP"
)

// Sent says whether the provider sends the password when it is asked to.
func (k OTPKind) Sent() bool { return k != OTPApp && k != "" }

// OTPDevice is one way in which the holder gets one-time passwords.
type OTPDevice struct {
	ID   string // the provider's name for it; may be empty where there is one only
	Kind OTPKind
}

// Description is what a provider tells of a credential. It is public knowledge of the holder's: nothing
// in it is secret.
type Description struct {
	// Chain is the certificate, then its issuers as far as the provider gives them.
	Chain  []*x509.Certificate
	Status Status
	// SCAL is the sole control level: 2 when the provider itself binds an authorization to the hashes, else 1.
	SCAL int
	// Multisign is how many hashes one authorization may be for; 1 at least.
	Multisign int
	// PIN says whether a PIN (or password) is asked for beside the one-time password.
	PIN bool
	// OTP are the ways to get a one-time password; empty when none is asked for.
	OTP []OTPDevice
}

// Factors are what a holder shows. They live for one call and print as nothing.
type Factors struct {
	PIN string
	OTP string
	// Device is the OTPDevice.ID that OTP is of.
	Device string
}

// String keeps factors out of text.
func (Factors) String() string { return "[factors]" }

// GoString keeps factors out of %#v.
func (Factors) GoString() string { return "[factors]" }

// LogValue keeps factors out of logs.
func (Factors) LogValue() slog.Value { return slog.StringValue("[factors]") }

// MarshalJSON keeps factors out of JSON.
func (Factors) MarshalJSON() ([]byte, error) { return []byte(`"[factors]"`), nil }

// Grant is what Authorize gives and SignHashes takes: a SAD, or a session. It is a secret, and prints as
// nothing; the caller keeps it encrypted or not at all.
type Grant struct {
	// Token is the provider's own business: opaque to everybody else.
	Token []byte
	// Expires is when the provider takes it no more.
	Expires time.Time
}

// String keeps a grant out of text.
func (Grant) String() string { return "[grant]" }

// GoString keeps a grant out of %#v.
func (Grant) GoString() string { return "[grant]" }

// LogValue keeps a grant out of logs.
func (Grant) LogValue() slog.Value { return slog.StringValue("[grant]") }

// MarshalJSON keeps a grant out of JSON.
func (Grant) MarshalJSON() ([]byte, error) { return []byte(`"[grant]"`), nil }

// Provider is one provider of remote signatures, under one account of ours. It is safe for use by many at
// the same time. Every error is an [*Error]; see [Outcome] for what may be done after each.
type Provider interface {
	// Describe reads what the provider says of a credential. It changes nothing and may be repeated.
	Describe(ctx context.Context, c Credential) (Description, error)

	// SendOTP has the provider send the holder a one-time password for these hashes (those that cannot
	// bind it to them send it all the same). It may be repeated: the holder gets another password. Of a device
	// on which the holder approves it gives what is to be shown to them beside it, such as a number, if there is anything.
	SendOTP(ctx context.Context, c Credential, device OTPDevice, hashes []Hash) (shown string, err error)

	// Authorize spends the factors. With SCAL 2 the grant is for exactly these hashes; else the caller
	// answers for that. It is asked once for the same password, whatever comes of it.
	Authorize(ctx context.Context, c Credential, hashes []Hash, f Factors) (Grant, error)

	// SignHashes signs, in order: PKCS #1 v1.5 for RSA, ASN.1 (ECDSA-Sig-Value) for ECDSA, over SHA-256.
	//
	// Where a provider takes one hash a call the list may be cut short: signatures then holds those that
	// were made, in order, and err is why the next was not. The caller keeps what was made. A hash whose
	// outcome is Unknown is never asked for again under this grant.
	SignHashes(ctx context.Context, c Credential, g Grant, hashes []Hash) (signatures [][]byte, err error)

	// Close gives a grant up. What the provider has no word for is nil.
	Close(ctx context.Context, c Credential, g Grant) error
}
