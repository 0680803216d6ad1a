package signer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/pades"
	"ceralacca.dev/services/format/xades"
	"ceralacca.dev/services/internal/fault"
)

// output is how documents are signed. key tells two requests apart that want different files.
type output struct {
	form  signv1.SignatureForm
	away  bool // the documents stay with the caller, and the signatures are beside them
	stamp bool
	pdf   *signv1.PdfSignature
	// certify makes the author's signature of a PDF, which says what may come after it.
	certify pades.Certification
	key     string
}

const mimeBeside = "application/pkcs7-signature"

const formPrefix = "SIGNATURE_FORM_"

func (o output) name() string { return o.form.String()[len(formPrefix):] }

func (o output) mediaType() string {
	switch o.form {
	case signv1.SignatureForm_SIGNATURE_FORM_XADES_ENVELOPED:
		return "application/xml"
	case signv1.SignatureForm_SIGNATURE_FORM_PADES:
		return "application/pdf"
	case signv1.SignatureForm_SIGNATURE_FORM_CADES_DETACHED:
		return mimeBeside
	}
	if o.away {
		return mimeBeside
	}
	return mimeSigned
}

func outputOf(req *signv1.SignDocumentsRequest) (output, error) {
	o := output{form: req.GetForm(), stamp: req.GetTimestamp(), pdf: req.GetPdf()}
	if o.pdf != nil && o.form != signv1.SignatureForm_SIGNATURE_FORM_PADES {
		return o, fault.Invalid("FORM_WITHOUT_PDF", "pdf: is for the form PADES").WithField("pdf", "FORM_WITHOUT_PDF", "is for the form PADES")
	}
	for i, d := range req.GetDocuments() {
		if away := d.GetSha256() != nil; i == 0 {
			o.away = away
		} else if away != o.away {
			return o, fault.Invalid("DOCUMENTS_MIXED", "documents: some by their digest and some not: use two requests").
				WithField("documents", "DOCUMENTS_MIXED", "some by their digest and some not")
		}
	}
	said, err := proto.MarshalOptions{Deterministic: true}.Marshal(o.pdf)
	if err != nil {
		return o, fmt.Errorf("signer: %w", err)
	}
	sum := sha256.Sum256(said)
	o.key = fmt.Sprintf("%s %t %s", o.name(), o.stamp, hex.EncodeToString(sum[:8]))
	if o.away {
		o.key += " beside"
	}
	return o, nil
}

// makeOne makes one signed file and reads it back. content is nil when the document stays with the
// caller: the signature is beside it then.
func (s *Service) makeOne(ctx context.Context, hash, content []byte, by *readyCredential, at time.Time, o output, stamp cades.Stamp) ([]byte, error) {
	if !o.stamp {
		stamp = nil
	}
	file, err := signAs(ctx, hash, content, by, at, o, stamp)
	if err != nil {
		return nil, unmade(err)
	}
	if err := checkAs(ctx, file, hash, content, by, o); err != nil {
		return nil, fault.Internal("SIGNATURE_NOT_VERIFIED", "the signature just made does not verify and is thrown away").With(err)
	}
	return file, nil
}

// unmade tells what is wrong with the document from what is wrong with the world.
func unmade(err error) error {
	var stamp *cades.TimestampError
	var inDocument *xades.TimestampError
	if errors.As(err, &stamp) {
		err = stamp.Err
	} else if errors.As(err, &inDocument) {
		err = inDocument.Err
	}
	var f *fault.Fault
	if errors.As(err, &f) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var inXML *xades.SyntaxError
	var inPDF *pades.SyntaxError
	var inCMS *cms.SyntaxError
	var forbidden *pades.ForbiddenError
	var limit *pades.LimitError
	if errors.As(err, &inXML) || errors.As(err, &inPDF) || errors.As(err, &inCMS) || errors.As(err, &forbidden) || errors.As(err, &limit) || errors.Is(err, pades.ErrEncrypted) || errors.Is(err, pades.ErrBoxText) || errors.Is(err, errNotSignable) {
		return fault.Invalid("DOCUMENT_NOT_SIGNABLE", "documents: a document cannot be signed in this form: %v", err).
			WithField("documents", "DOCUMENT_NOT_SIGNABLE", err.Error())
	}
	return fmt.Errorf("signer: %w", err)
}

var errNotSignable = errors.New("not signable")

func signAs(ctx context.Context, hash, content []byte, by *readyCredential, at time.Time, o output, stamp cades.Stamp) ([]byte, error) {
	opts := cades.Options{SigningTime: at, Timestamp: stamp, ReadBack: true} // see checkAs
	if content == nil {
		return whole(cades.SignDetached(ctx, hash, by.signer, opts))
	}
	switch o.form {
	case signv1.SignatureForm_SIGNATURE_FORM_CADES_ATTACHED:
		return whole(cades.Sign(ctx, content, by.signer, opts))
	case signv1.SignatureForm_SIGNATURE_FORM_CADES_DETACHED:
		return whole(cades.SignDetached(ctx, hash, by.signer, opts))
	case signv1.SignatureForm_SIGNATURE_FORM_CADES_PARALLEL:
		p7m, report, err := cades.Verify(content, cades.VerifyOptions{})
		if err != nil {
			return nil, fmt.Errorf("%w: it is no .p7m: %w", errNotSignable, err)
		}
		if p7m.Trailing > 0 { // they were among the bytes of the document, and would be gone
			return nil, fmt.Errorf("%w: %d bytes follow the end of the .p7m, which no signature covers", errNotSignable, p7m.Trailing)
		}
		for i := range report.Signers {
			if !report.Signers[i].Intact() {
				return nil, fmt.Errorf("%w: signature %d of the .p7m does not hold", errNotSignable, i+1)
			}
		}
		return whole(cades.AddSigner(ctx, content, by.signer, opts))
	case signv1.SignatureForm_SIGNATURE_FORM_XADES_ENVELOPED:
		return whole(xades.Sign(ctx, content, xades.Signer{Chain: by.signer.Chain, Key: by.signer.Key}, xades.Options{SigningTime: at, Timestamp: xades.Stamp(stamp)}))
	case signv1.SignatureForm_SIGNATURE_FORM_PADES:
		var b bytes.Buffer
		err := pades.Sign(ctx, &b, bytes.NewReader(content), int64(len(content)), by.signer, pades.Options{
			SigningTime: at, Timestamp: stamp, Reason: o.pdf.GetReason(), Location: o.pdf.GetLocation(), Field: o.pdf.GetField(), Box: boxOf(o.pdf.GetBox()),
			Certify: o.certify,
		})
		return b.Bytes(), err
	}
	return nil, fmt.Errorf("signer: form %s is not made here", o.name())
}

func boxOf(b *signv1.PdfBox) *pades.Box {
	if b == nil {
		return nil
	}
	return &pades.Box{Page: int(b.GetPage()), X: b.GetX(), Y: b.GetY(), Width: b.GetWidth(), Height: b.GetHeight(), Lines: b.GetLines(), Border: b.GetBorder()}
}

// whole refuses the BES that comes beside a missing time-stamp: a request gets what it asked for or
// nothing, and goes on under its request_id.
func whole(file []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return file, nil
}

// checkAs reads a file back: what is signed is the document, and the certificate verifies it.
func checkAs(ctx context.Context, file, hash, content []byte, by *readyCredential, o output) error {
	leaf := by.signer.Chain[0]
	if content == nil {
		return verifyDetached(file, hash, by)
	}
	switch o.form {
	case signv1.SignatureForm_SIGNATURE_FORM_CADES_ATTACHED:
		return verifyOutput(file, content, by)
	case signv1.SignatureForm_SIGNATURE_FORM_CADES_DETACHED:
		return verifyDetached(file, hash, by)
	case signv1.SignatureForm_SIGNATURE_FORM_CADES_PARALLEL:
		before, err := cms.Parse(content)
		if err != nil {
			return err
		}
		after, report, err := cades.Verify(file, cades.VerifyOptions{})
		if err != nil {
			return err
		}
		if len(report.Signers) != len(before.Signers)+1 || !bytes.Equal(before.Content(), after.Content()) {
			return errors.New("content or number of signatures changed")
		}
		ours := false
		for i := range report.Signers {
			if !report.Signers[i].Intact() {
				return fmt.Errorf("signature %d does not hold", i+1)
			}
			ours = ours || leaf.Equal(report.Signers[i].Certificate)
		}
		if !ours {
			return errors.New("no signature is by the certificate")
		}
		return nil
	case signv1.SignatureForm_SIGNATURE_FORM_XADES_ENVELOPED:
		report, err := xades.Verify(file, xades.VerifyOptions{})
		if err != nil {
			return err
		}
		for i := range report.Signatures {
			r := &report.Signatures[i]
			if leaf.Equal(r.Certificate) && r.Signature.Verdict == xades.Passed && r.References.Verdict == xades.Passed && r.Document.Verdict == xades.Passed {
				return nil
			}
		}
		return errors.New("no signature by the certificate holds over the whole document")
	}
	report, err := pades.Verify(ctx, bytes.NewReader(file), int64(len(file)), pades.VerifyOptions{})
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(file, content) {
		return errors.New("the document's own bytes changed")
	}
	for i := range report.Signatures {
		r := &report.Signatures[i]
		if r.Signature != nil && leaf.Equal(r.Signature.Certificate) && r.Signature.Intact() && r.Range.Verdict == cms.Passed && r.Revision() == int64(len(file)) {
			return nil
		}
	}
	return errors.New("no signature by the certificate covers the whole file")
}
