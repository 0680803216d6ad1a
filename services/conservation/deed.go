package conservation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/pades"
	"ceralacca.dev/services/internal/fault"
)

// checkDeed judges the signatures of a deed, a .p7m or a PDF: each must hold and, where it is configured who may sign, lead to these roots.
// A PDF that nobody signed electronically is taken only where that is not configured. It gives what was judged, which stands in the report.
func (s *Service) checkDeed(ctx context.Context, field string, raw []byte) (judged string, err error) {
	f := recognise(raw, 0)
	var signers []string
	switch f.format.name {
	case formatPDF, formatPDFA:
		signers, err = s.signersOfPDF(ctx, raw)
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if err != nil && !f.signed || errors.Is(err, pades.ErrUnsigned) && !f.signed {
			if s.deedRoots == nil {
				return "a PDF that bears no electronic signature", nil
			}
			return "", fault.Invalid("DEED_NOT_SIGNED", "%s.deed: the PDF bears no electronic signature, and disposal.deed_roots_file says who may sign: hand over the signed one", field).
				WithField(field+".deed", "DEED_NOT_SIGNED", "bears no signature")
		}
	case formatSigned:
		signers, err = s.signersOfCMS(raw)
	default:
		return "", fault.Invalid("DEED_FORMAT", "%s.deed: it is %s: hand over the signed deed as .p7m or PDF", field, f.format.name).WithField(field+".deed", "DEED_FORMAT", "neither .p7m nor PDF")
	}
	if err != nil {
		return "", fault.Invalid("DEED_NOT_VERIFIED", "%s.deed: its signature does not hold: %v", field, err).WithField(field+".deed", "DEED_NOT_VERIFIED", "does not hold")
	}
	how := "it holds; whose it is was not judged: disposal.deed_roots_file is not set"
	if s.deedRoots != nil {
		how = "it holds, and its signer leads to the roots of disposal.deed_roots_file"
	}
	return strings.Join(signers, ", ") + ": " + how, nil
}

func (s *Service) signersOfCMS(raw []byte) (signers []string, err error) {
	opts := cades.VerifyOptions{}
	if s.deedRoots != nil {
		opts.Roots, opts.At = s.deedRoots, s.now()
	}
	_, report, err := cades.Verify(raw, opts)
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		return nil, err
	}
	for i := range report.Signers {
		signers = append(signers, report.Signers[i].Certificate.Subject.CommonName)
	}
	return signers, nil
}

// signersOfPDF is stricter than a reader of PDF: a deed is what its signers saw, so nothing may have been filled in after them either, and
// what cannot be judged does not hold. A document time stamp is nobody's signature.
func (s *Service) signersOfPDF(ctx context.Context, raw []byte) (signers []string, err error) {
	opts := pades.VerifyOptions{}
	if s.deedRoots != nil {
		opts.Roots, opts.At = s.deedRoots, s.now()
	}
	report, err := pades.Verify(ctx, bytes.NewReader(raw), int64(len(raw)), opts)
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		return nil, err
	}
	for i := range report.Signatures {
		g := &report.Signatures[i]
		for _, c := range []cms.Check{g.Range, g.Structure, g.ChangesAllowed, g.Format} {
			if c.Verdict != cms.Passed {
				return nil, fmt.Errorf("%s %q cannot be judged: %s", g.Kind, g.Field, c.Reason)
			}
		}
		if g.Modification > pades.Signing {
			return nil, fmt.Errorf("%s %q: the document was changed after it (%s)", g.Kind, g.Field, g.Modification)
		}
		if g.Kind == pades.KindSignature {
			signers = append(signers, g.Signature.Certificate.Subject.CommonName)
		}
	}
	if len(signers) == 0 {
		return nil, pades.ErrUnsigned
	}
	return slices.Compact(signers), nil
}
