package sdiftp

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"ceralacca.dev/services/format/cms"
)

// Signer signs supports.
type Signer struct {
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // issuers to embed
	Key         crypto.Signer
}

// Opener opens supports: the key that they are encrypted for, and whose signatures count.
type Opener struct {
	Certificate *x509.Certificate
	Key         crypto.Decrypter
	Roots       *x509.CertPool // nil: anybody's signature counts, as long as it holds
	// Signers are the common names that may sign; any that Roots vouch for when empty.
	Signers []string
}

// Seal signs the ZIP of a support (SignedData with the ZIP inside, SHA-256) and encrypts the result for the
// recipients (EnvelopedData, AES-256-CBC, RSA), both DER: the bytes that lie in the directory.
// spec: SDIFTP-4.3 §6
func Seal(ctx context.Context, archive []byte, at time.Time, by Signer, recipients ...*x509.Certificate) ([]byte, error) {
	signed, err := cms.Sign(ctx, archive, by.Key, cms.Options{Certificate: by.Certificate, Chain: by.Chain, SigningTime: at})
	if err != nil {
		return nil, fmt.Errorf("sdiftp: sign: %w", err)
	}
	sealed, err := cms.Encrypt(signed, recipients...)
	if err != nil {
		return nil, fmt.Errorf("sdiftp: encrypt: %w", err)
	}
	if len(sealed) > MaxSupport {
		return nil, fmt.Errorf("%w: the support has %d bytes, SdI takes at most %d", ErrTooLarge, len(sealed), MaxSupport)
	}
	return sealed, nil
}

// Open undoes Seal: it decrypts, verifies and gives the ZIP. What was signed is given even when the
// signature does not hold, with ErrSignature, so that it can be kept and looked at.
// Errors wrap ErrEncryption (refusal code 1) or ErrSignature (refusal code 2).
// spec: SDIFTP-4.3 §3.2, §6
func (o Opener) Open(sealed []byte, at time.Time) ([]byte, error) {
	lim := cms.Limits{Size: MaxSupport + 1<<20}
	env, err := cms.ParseEnvelopedLimited(sealed, lim)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncryption, err)
	}
	signed, err := env.Open(o.Certificate, o.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncryption, err)
	}
	sd, err := cms.ParseLimited(signed, lim)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if sd.Detached {
		return nil, fmt.Errorf("%w: the support is not inside the signature", ErrSignature)
	}
	report := sd.Verify(cms.VerifyOptions{Roots: o.Roots, At: at})
	if err := report.Err(); err != nil {
		return sd.Content(), fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return sd.Content(), o.allowed(report)
}

// allowed says whether one of the signers is among those that count.
func (o Opener) allowed(report *cms.Report) error {
	if len(o.Signers) == 0 {
		return nil
	}
	for _, s := range report.Signers {
		for _, name := range o.Signers {
			if s.Certificate != nil && s.Certificate.Subject.CommonName == name {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: signed by nobody of %q", ErrSignature, o.Signers)
}
