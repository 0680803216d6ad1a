package cades

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"ceralacca.dev/services/format/cms"
)

// Signer is a key with its certificates: the signer's own first, then its issuers.
// A key that implements cms.ContextSigner gets the caller's context.
type Signer struct {
	Chain []*x509.Certificate
	Key   crypto.Signer
}

// Stamp gets a time-stamp token over a SHA-256 (tsp.Client.StampToken is one).
type Stamp func(ctx context.Context, sha256Digest []byte) ([]byte, error)

// Options of one signature.
type Options struct {
	// SigningTime is the "riferimento temporale" and is required: SdI refuses a file without one
	// (00103) or with one after its reception (00105).
	SigningTime time.Time
	// Timestamp, when set, makes CAdES-T.
	Timestamp Stamp
	// ReadBack: see cms.Options. A value that is to be stamped is verified all the same.
	ReadBack bool
}

// TimestampError: the signature is made, the stamp is not. The CAdES-BES is returned beside
// it; keep it and call AddTimestamp later, so that the one-time password is not spent twice.
type TimestampError struct{ Err error }

func (e *TimestampError) Error() string {
	return fmt.Sprintf("cades: signed, but not time-stamped: %v", e.Err)
}

func (e *TimestampError) Unwrap() error { return e.Err }

// Sign makes an attached CAdES-BES (or T) in DER over content, the bytes of a ".p7m".
// Errors: cms.ErrKeyMismatch, cms.ErrBadSignature, the key's own; *TimestampError comes with
// the BES file. spec: TS101733 §4.3.1; EN319122-1 §5
func Sign(ctx context.Context, content []byte, s Signer, o Options) ([]byte, error) {
	sum := sha256.Sum256(content)
	p, err := Prepare(sum[:], s, o)
	if err != nil {
		return nil, err
	}
	sig, err := p.Sign(ctx, s.Key)
	if err != nil {
		return nil, fmt.Errorf("cades: %w", err)
	}
	unsigned, stampErr := stampAttributes(ctx, sig, o.Timestamp)
	out, err := p.Assemble(content, sig, unsigned...)
	if err != nil {
		return nil, fmt.Errorf("cades: %w", err)
	}
	return out, stampErr
}

// SignDetached makes a CAdES signature without content over content with the given SHA-256.
func SignDetached(ctx context.Context, contentSHA256 []byte, s Signer, o Options) ([]byte, error) {
	p, err := Prepare(contentSHA256, s, o)
	if err != nil {
		return nil, err
	}
	sig, err := p.Sign(ctx, s.Key)
	if err != nil {
		return nil, fmt.Errorf("cades: %w", err)
	}
	unsigned, stampErr := stampAttributes(ctx, sig, o.Timestamp)
	out, err := p.AssembleDetached(sig, unsigned...)
	if err != nil {
		return nil, fmt.Errorf("cades: %w", err)
	}
	return out, stampErr
}

// SignStream makes an attached CAdES-BES with flat memory; content is read twice.
// Options.Timestamp is not taken: the stamp would come after the bytes have gone out.
func SignStream(ctx context.Context, w io.Writer, content io.ReadSeeker, s Signer, o Options) error {
	if o.Timestamp != nil {
		return errors.New("cades: a streamed signature takes no time-stamp: add it with AddTimestamp")
	}
	opts, err := attributes(s, o)
	if err != nil {
		return err
	}
	if err := cms.SignStream(ctx, w, content, s.Key, opts); err != nil {
		return fmt.Errorf("cades: %w", err)
	}
	return nil
}

// Prepare fixes the signed attributes of a signature over content with the given SHA-256. It is
// for callers that have many digests signed in one batch: Prepared.Digest goes to the key,
// Prepared.Check judges what comes back, Prepared.Assemble writes the file.
func Prepare(contentSHA256 []byte, s Signer, o Options) (*cms.Prepared, error) {
	opts, err := attributes(s, o)
	if err != nil {
		return nil, err
	}
	p, err := cms.Prepare(contentSHA256, opts)
	if err != nil {
		return nil, fmt.Errorf("cades: %w", err)
	}
	return p, nil
}

func attributes(s Signer, o Options) (cms.Options, error) {
	if len(s.Chain) == 0 || s.Chain[0] == nil {
		return cms.Options{}, errors.New("cades: the signer has no certificate")
	}
	if o.SigningTime.IsZero() {
		return cms.Options{}, errors.New("cades: signing time is required")
	}
	leaf := s.Chain[0]
	if t := o.SigningTime; t.Before(leaf.NotBefore) || t.After(leaf.NotAfter) {
		return cms.Options{}, fmt.Errorf("cades: the certificate is valid from %s to %s, not at the signing time %s",
			leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), t.UTC().Format(time.RFC3339))
	}
	ess, err := cms.SigningCertificateV2(leaf)
	if err != nil {
		return cms.Options{}, fmt.Errorf("cades: %w", err)
	}
	return cms.Options{
		Certificate: leaf, Chain: s.Chain[1:], SigningTime: o.SigningTime, Signed: []cms.Attribute{ess}, ReadBack: o.ReadBack && o.Timestamp == nil,
	}, nil
}

// stampAttributes stamps the signature value. spec: EN319122-1 §5.3
func stampAttributes(ctx context.Context, sig []byte, stamp Stamp) ([]cms.Attribute, error) {
	if stamp == nil {
		return nil, nil
	}
	sum := sha256.Sum256(sig)
	token, err := stamp(ctx, sum[:])
	if err != nil {
		return nil, &TimestampError{err}
	}
	return []cms.Attribute{{Type: cms.OIDSignatureTimeStamp, Values: [][]byte{token}}}, nil
}

// AddTimestamp turns a CAdES-BES file into CAdES-T: every signature without a stamp gets one.
// The result is DER, whatever the file was; a file that has all its stamps is returned as it is.
func AddTimestamp(ctx context.Context, p7m []byte, stamp Stamp) ([]byte, error) {
	for {
		sd, err := cms.Parse(p7m)
		if err != nil {
			return nil, fmt.Errorf("cades: %w", err)
		}
		next := -1
		for i, si := range sd.Signers {
			if si.Unsigned(cms.OIDSignatureTimeStamp) == nil {
				next = i
				break
			}
		}
		if next < 0 {
			return p7m, nil
		}
		attrs, err := stampAttributes(ctx, sd.Signers[next].Signature, stamp)
		if err != nil {
			return nil, err
		}
		if p7m, err = sd.AddUnsigned(next, attrs[0]); err != nil {
			return nil, fmt.Errorf("cades: %w", err)
		}
	}
}

// AddSigner adds a parallel signature to an attached p7m. The result is DER.
func AddSigner(ctx context.Context, p7m []byte, s Signer, o Options) ([]byte, error) {
	opts, err := attributes(s, o)
	if err != nil {
		return nil, err
	}
	sd, err := cms.Parse(p7m)
	if err != nil {
		return nil, fmt.Errorf("cades: %w", err)
	}
	if sd.Detached {
		return nil, errors.New("cades: the file holds no content: give its digest to cms.SignedData.AddSigner")
	}
	out, err := sd.AddSigner(ctx, nil, s.Key, opts)
	if err != nil {
		return nil, fmt.Errorf("cades: %w", err)
	}
	if o.Timestamp == nil {
		return out, nil
	}
	stamped, err := AddTimestamp(ctx, out, o.Timestamp)
	if err != nil {
		return out, &TimestampError{err}
	}
	return stamped, nil
}
