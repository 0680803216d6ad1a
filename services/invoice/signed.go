package invoice

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/signature"
	"ceralacca.dev/services/format/xades"
	"ceralacca.dev/services/internal/fault"
)

// mediaP7M is the type of a file in a signature envelope, as the gateway names it .xml.p7m.
const mediaP7M = "application/pkcs7-mime"

// howSigned says how a file that was handed in is signed.
type howSigned uint8

const (
	signedNot    howSigned = iota
	signedWithin           // XAdES: the signature is an element of the file
	signedAround           // CAdES: the file is in an envelope
)

// read takes the invoice out of what was handed in. A signature that SdI would refuse refuses the file;
// trust and revocation are SdI's to judge.
//
// spec: AllA-1.9 §1.2.1: CAdES-BES around the file or XAdES-BES in it
func read(content []byte, now time.Time) (*fatturapa.File, howSigned, error) {
	if !cms.Looks(content) {
		file, err := fatturapa.Parse(content)
		if err != nil {
			return nil, signedNot, unreadable(err)
		}
		if !file.Signed {
			return file, signedNot, nil
		}
	}
	f, err := signature.Read(content, signature.Options{At: now})
	if err != nil {
		return nil, signedNot, unreadable(err)
	}
	how := signedWithin
	if len(f.Layers) > 0 {
		how = signedAround
		if err := envelope(f.Layers); err != nil {
			return nil, how, err
		}
	}
	return f.Invoice, how, holds(f.Report)
}

// envelope refuses forms that can be read here and are none that SdI is known to take: one envelope, in
// binary or in Base64.
func envelope(layers []*cms.SignedData) error {
	if len(layers) > 1 {
		return contentFault("SIGNATURE_INVALID", "ENVELOPE_NESTED",
			fmt.Sprintf("the file is in %d envelopes, one around the other, and SdI takes one: add a second signature beside the first, not around it", len(layers)))
	}
	if layers[0].Armour == cms.ArmourPEM {
		return contentFault("SIGNATURE_INVALID", "ENVELOPE_PEM", "the envelope is written as PEM, which SdI is not known to take: send it as DER")
	}
	return nil
}

// holds refuses a file whose signature fails a control.
func holds(r *signature.Report) error {
	if len(r.Findings) == 0 {
		if !r.Holds() {
			return contentFault("SIGNATURE_INVALID", "00102", "the signature of the file cannot be verified: sign it again")
		}
		return forSdI(r)
	}
	f := fault.Invalid("SIGNATURE_INVALID", "content: SdI would refuse the signature of this file: %s", explain(&r.Findings[0]))
	for i := range r.Findings[:min(len(r.Findings), maxFindings)] {
		f = f.WithField("content", r.Findings[i].Code, explain(&r.Findings[i]))
	}
	return f
}

// forSdI refuses signatures that hold and are none of the forms that SdI takes.
//
// spec: AllA-1.9 §1.2.1: CAdES-BES or XAdES-BES, with a certificate for signing
func forSdI(r *signature.Report) error {
	levels := []string{string(cades.LevelBES), string(cades.LevelT), string(xades.LevelBES)}
	for i := range r.Signatures {
		s := &r.Signatures[i]
		if !slices.Contains(levels, s.Level) {
			return contentFault("SIGNATURE_INVALID", "00107",
				fmt.Sprintf("the signature is of the form %s, which does not say with which certificate it was made: sign as CAdES-BES or XAdES-BES", s.Level))
		}
		if s.Certificate.KeyUsage&x509.KeyUsageContentCommitment == 0 {
			return contentFault("SIGNATURE_INVALID", "00107",
				fmt.Sprintf("the certificate of %s is not for signing documents (its key usage lacks nonRepudiation): sign with one that is", s.Signer()))
		}
	}
	return nil
}

// unreadable says why there is no invoice to read: INVOICE_TOO_LARGE or INVOICE_UNREADABLE.
func unreadable(err error) error {
	var parse *fatturapa.ParseError
	var envelope *signature.EnvelopeError
	switch {
	case errors.As(err, &parse):
		return unparsable(parse)
	case errors.Is(err, signature.ErrDetached):
		return contentFault("INVOICE_UNREADABLE", "DETACHED", "the signature is detached, so the invoice is not in the file: send the file that holds both")
	case errors.As(err, &envelope):
		return contentFault("INVOICE_UNREADABLE", "ENVELOPE", fmt.Sprintf("the signature envelope cannot be opened (%v): fetch or export the file again", envelope.Err))
	}
	return fmt.Errorf("invoice: read: %w", err)
}
