package signature

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/xades"
)

// Options says what signatures are judged by. The zero value judges integrity only.
type Options struct {
	// At is the time of judgement; zero leaves expiry, trust and times in the future
	// unjudged.
	At time.Time
	// Roots are whom to trust; nil leaves trust unjudged.
	Roots         *x509.CertPool
	Intermediates []*x509.Certificate
	// Limits are those of the XML inside; zero fields are the defaults.
	Limits fatturapa.Limits
}

// File is an invoice with what is true of its signatures.
type File struct {
	Invoice *fatturapa.File
	// XML is the content of the innermost envelope: what Invoice was read from. An
	// XML signature is still in it.
	XML []byte
	// Layers are the envelopes, outermost first; none for plain XML.
	Layers []*cms.SignedData
	Report *Report
}

// ErrDetached is the error of a signature without the invoice that it signs.
var ErrDetached = errors.New("signature: the signature is detached: the invoice is not in the file")

// EnvelopeError is that of a file that looks like a signature envelope and cannot
// be opened: damaged, cut, or nested too deep.
type EnvelopeError struct{ Err error }

func (e *EnvelopeError) Error() string {
	return "signature: the envelope cannot be opened: " + e.Err.Error()
}

// Unwrap gives the fault of the envelope.
func (e *EnvelopeError) Unwrap() error { return e.Err }

// Unwrap takes an invoice out of its envelopes without judging anything. What does
// not look like an envelope is content. Errors: *EnvelopeError, ErrDetached.
func Unwrap(raw []byte) (content []byte, layers []*cms.SignedData, err error) {
	if !cms.Looks(raw) {
		return raw, nil, nil
	}
	content, layers, err = cms.Open(raw)
	if err != nil {
		return nil, layers, &EnvelopeError{err}
	}
	if len(layers) > 0 && layers[len(layers)-1].Detached {
		return nil, layers, ErrDetached
	}
	return content, layers, nil
}

// Read opens an invoice file and judges its signatures. The error says why there
// is no invoice to read (*EnvelopeError, ErrDetached, *fatturapa.ParseError); what
// is wrong with a signature is never an error, it is in the report.
func Read(raw []byte, o Options) (*File, error) {
	content, layers, err := Unwrap(raw)
	if err != nil {
		return nil, err
	}
	invoice, err := fatturapa.ParseWithin(content, o.Limits)
	if err != nil {
		return nil, err
	}
	f := &File{Invoice: invoice, XML: content, Layers: layers}
	f.Report = judge(f, o)
	return f, nil
}

// judge reports on the envelopes, outermost first, and then on the signatures in
// the XML.
func judge(f *File, o Options) *Report {
	r := &Report{}
	for i, layer := range f.Layers {
		rep := cades.Judge(layer, cades.VerifyOptions{Roots: o.Roots, TSARoots: o.Roots, Intermediates: o.Intermediates, At: o.At})
		r.Warnings = append(r.Warnings, rep.Warnings...)
		if len(rep.Signers) == 0 {
			r.Warnings = append(r.Warnings, fmt.Sprintf("envelope %d holds no signature", i+1))
		}
		for j := range rep.Signers {
			r.add(fromCAdES(&rep.Signers[j], i+1), o.At)
		}
	}
	if f.Invoice.Signed {
		rep, err := xades.Verify(f.XML, xades.VerifyOptions{Roots: o.Roots, Intermediates: o.Intermediates, At: o.At})
		if err != nil {
			r.Warnings = append(r.Warnings, "the signature in the XML cannot be judged: "+err.Error())
		} else {
			for i := range rep.Signatures {
				r.add(fromXAdES(&rep.Signatures[i], len(f.Layers)), o.At)
			}
		}
	}
	r.NeedsAuthority = needsAuthority(r, o)
	return r
}
