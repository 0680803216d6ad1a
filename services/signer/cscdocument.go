package signer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/format/pades"
	"ceralacca.dev/services/internal/fault"
)

// signDoc signs documents, or documents of which only the digest is known. A SAD is used once, so all of
// a call have one form. spec: CSC-2.0.0.2 §11.11
func (c *cscCall) signDoc(ctx context.Context, req *csc2.SignDocRequest) (*csc2.SignDocResponse, error) {
	if err := synchronous(req.OperationMode); err != nil {
		return nil, err
	}
	switch {
	case req.ReturnValidationInfo:
		return nil, csc.InvalidParameter("returnValidationInfo")
	case req.SignatureQualifier != "" && req.SignatureQualifier != cscQualifier:
		return nil, csc.InvalidParameter("signatureQualifier")
	}
	if len(req.DocumentDigests) > 0 {
		return c.signDigests(ctx, req)
	}
	return c.signDocuments(ctx, req)
}

// formOf says how a document is signed.
func (c *cscCall) formOf(f csc2.Form, detached bool) (output, error) {
	o := output{}
	envelope := f.Envelope
	switch f.Format + " " + envelope {
	case "C Attached", "C ":
		o.form = signv1.SignatureForm_SIGNATURE_FORM_CADES_ATTACHED
		// The sample of the specification for digests names no envelope, and only one of them fits.
		if detached && envelope == "" {
			o.form = signv1.SignatureForm_SIGNATURE_FORM_CADES_DETACHED
		}
	case "C Detached":
		o.form = signv1.SignatureForm_SIGNATURE_FORM_CADES_DETACHED
	case "C Parallel":
		o.form = signv1.SignatureForm_SIGNATURE_FORM_CADES_PARALLEL
	case "X Enveloped", "X ":
		o.form = signv1.SignatureForm_SIGNATURE_FORM_XADES_ENVELOPED
	case "P Certification", "P ":
		o.form, o.certify = signv1.SignatureForm_SIGNATURE_FORM_PADES, pades.FormsAndSigning
	case "P Revision":
		o.form = signv1.SignatureForm_SIGNATURE_FORM_PADES
	default:
		if f.Format == "J" {
			return o, csc.InvalidParameter("signature_format")
		}
		return o, csc.InvalidParameter("signed_envelope_property")
	}
	if len(f.SignedProps) > 0 {
		names := make([]string, 0, len(f.SignedProps))
		for _, p := range f.SignedProps {
			names = append(names, p.Name)
		}
		return o, csc.Invalid("Invalid parameter signed_props (%s)", strings.Join(names, ", "))
	}
	switch strings.ToLower(f.Level) { // written in two ways by the specification itself
	case "", "ades-b-b", "ades-b":
	case "ades-b-t", "ades-t":
		o.stamp = true
	default:
		return o, csc.InvalidParameter("conformance_level")
	}
	if o.stamp && len(c.service.stamps) == 0 {
		return o, csc.InvalidParameter("conformance_level")
	}
	o.key = fmt.Sprintf("CSC %s %t %d", o.name(), o.stamp, o.certify)
	return o, nil
}

// oneForm says how all of a call are signed.
func (c *cscCall) oneForm(forms []csc2.Form, detached bool) (output, error) {
	first, err := c.formOf(forms[0], detached)
	if err != nil {
		return first, err
	}
	for _, f := range forms[1:] {
		other, err := c.formOf(f, detached)
		if err != nil {
			return first, err
		}
		if other.key != first.key || f.SignAlgo != forms[0].SignAlgo {
			return first, csc.Invalid("The SAD is used once: all documents of a call have one signature_format, conformance_level, signed_envelope_property and signAlgo")
		}
	}
	return first, nil
}

// signDigests makes detached CAdES of digests: no other form can be made without the document.
func (c *cscCall) signDigests(ctx context.Context, req *csc2.SignDocRequest) (*csc2.SignDocResponse, error) {
	row, err := c.one(ctx, req.CredentialID)
	if err != nil {
		return nil, err
	}
	var hashes [][]byte
	forms := make([]csc2.Form, 0, len(req.DocumentDigests))
	for _, d := range req.DocumentDigests {
		if err := c.algorithm(row, d.SignAlgo, d.HashAlgorithm, d.SignAlgoParams); err != nil {
			return nil, err
		}
		forms, hashes = append(forms, d.Form), append(hashes, d.Hashes...)
	}
	out, err := c.oneForm(forms, true)
	if err != nil {
		return nil, err
	}
	if out.form != signv1.SignatureForm_SIGNATURE_FORM_CADES_DETACHED {
		return nil, csc.InvalidParameter("signed_envelope_property")
	}
	out.away = true
	out.key += " beside"
	ch, err := c.use(ctx, row, req.SAD, hashes, out.key)
	if err != nil {
		return nil, ofDocuments(err)
	}
	d := &documents{made: map[[sha256.Size]byte][]byte{}}
	if ch.State != "SIGNED" {
		ch, err = c.service.signChallenge(ctx, row.Credential, ch, req.SAD, func(ctx context.Context, hash []byte, by *readyCredential, at time.Time) ([]byte, error) {
			return d.keep(c.service.makeOne(ctx, hash, nil, by, at, out, c.service.stamper(c.caller.Tenant)))
		})
		if err != nil {
			return nil, err
		}
	}
	files, err := c.service.release(ctx, row.Credential, ch, hashes, d)
	if err != nil {
		return nil, err
	}
	resp := &csc2.SignDocResponse{}
	for _, one := range files.GetSignatures() {
		resp.SignatureObject = append(resp.SignatureObject, one.GetCms())
	}
	return resp, nil
}

// signDocuments signs documents whose digests the SAD was given for.
func (c *cscCall) signDocuments(ctx context.Context, req *csc2.SignDocRequest) (*csc2.SignDocResponse, error) {
	s := c.service
	row, err := c.one(ctx, req.CredentialID)
	if err != nil {
		return nil, err
	}
	ask := &signv1.SignDocumentsRequest{Credential: nameOfCredential(row.Credential)}
	forms := make([]csc2.Form, 0, len(req.Documents))
	for _, d := range req.Documents {
		if err := c.algorithm(row, d.SignAlgo, csc.SHA256, d.SignAlgoParams); err != nil {
			return nil, err
		}
		forms = append(forms, d.Form)
		ask.Documents = append(ask.Documents, &signv1.DocumentToSign{Source: &signv1.DocumentToSign_Content{Content: d.Document}})
	}
	out, err := c.oneForm(forms, false)
	if err != nil {
		return nil, err
	}
	d, err := s.documentsOf(ctx, ask)
	if err != nil {
		return nil, err
	}
	defer d.release()
	ch, err := c.use(ctx, row, req.SAD, d.order, out.key)
	if err != nil {
		return nil, ofDocuments(err)
	}
	if ch.State != "SIGNED" {
		ch, err = s.signChallenge(ctx, row.Credential, ch, req.SAD, func(ctx context.Context, hash []byte, by *readyCredential, at time.Time) ([]byte, error) {
			return d.keep(s.makeOne(ctx, hash, d.bytes[[sha256.Size]byte(hash)], by, at, out, s.stamper(c.caller.Tenant)))
		})
		if err != nil {
			return nil, err
		}
	}
	files, err := s.release(ctx, row.Credential, ch, d.order, d)
	if err != nil {
		return nil, err
	}
	resp := &csc2.SignDocResponse{}
	for _, one := range files.GetSignatures() {
		if out.form == signv1.SignatureForm_SIGNATURE_FORM_CADES_DETACHED {
			resp.SignatureObject = append(resp.SignatureObject, one.GetCms())
		} else {
			resp.DocumentWithSignature = append(resp.DocumentWithSignature, one.GetCms())
		}
	}
	return resp, nil
}

// ofDocuments says of documents what is said of digests otherwise.
func ofDocuments(err error) error {
	var f *fault.Fault
	if errors.As(err, &f) && f.Code == "HASH_NOT_AUTHORIZED" {
		return &csc.Error{Status: http.StatusForbidden, Code: csc.CodeInvalidHash, Description: "Document or documentDigest does not match authorized hash"}
	}
	return err
}
