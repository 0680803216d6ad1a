package validation

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/pades"
	"ceralacca.dev/services/format/xades"
)

// oidContentTimestamp: a stamp over the content, made before it was signed. spec: EN319122-1 §5.2.8
var oidContentTimestamp = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 20}

// cms judges every envelope, outermost first, and then what is inside them.
func (j *judge) cms(r *Report, src Source, p proof, depth int) error {
	for layer := 1; ; layer++ {
		if layer > cms.MaxLayers {
			r.Conclusion = failed(FormatFailure, fmt.Sprintf("more than %d envelopes inside each other", cms.MaxLayers))
			return nil
		}
		sd, err := j.envelope(src)
		switch {
		case errors.Is(err, errTooLarge) && layer == 1:
			r.Conclusion = unsure(Generic, err.Error())
			return nil
		case errors.Is(err, errTooLarge):
			r.Signatures = append(r.Signatures, Signature{Form: KindCAdES, Layer: layer, Conclusion: unsure(Generic, err.Error())})
			return nil
		case err != nil && layer == 1:
			r.Conclusion = failed(FormatFailure, err.Error())
			return nil
		case err != nil:
			r.Signatures = append(r.Signatures, Signature{Form: KindCAdES, Layer: layer, Conclusion: failed(FormatFailure, "the envelope inside cannot be read")})
			return nil
		}
		content := bodyOf(sd)
		if sd.Detached {
			content = j.content
		}
		j.layer(r, sd, content, layer, p)
		r.Extracted, r.Given = content, sd.Detached
		if sd.Detached || content == nil {
			return nil
		}
		src = content
		start, err := headOf(src)
		if err != nil {
			return err
		}
		if cms.Looks(start) && !looksTSD(start) {
			continue
		}
		if looksPDF(start) || looksXML(start) || looksTSD(start) {
			return j.file(r, src, p, depth+1)
		}
		return nil
	}
}

// layer judges the signatures of one envelope.
func (j *judge) layer(r *Report, sd *cms.SignedData, content Source, layer int, p proof) {
	o := cades.VerifyOptions{Intermediates: j.o.Intermediates}
	if sd.Detached && content != nil {
		o.Content = io.NewSectionReader(content, 0, content.Size())
	}
	rep := cades.Judge(sd, o)
	r.Warnings = append(r.Warnings, rep.Warnings...)
	if len(rep.Signers) == 0 {
		r.Signatures = append(r.Signatures, Signature{Form: KindCAdES, Layer: layer, Conclusion: failed(FormatFailure, "the envelope holds no signature")})
	}
	for n := range rep.Signers {
		c := fromCMS(&rep.Signers[n], sd, sd.Signers[n], content)
		c.sig.Form, c.sig.Layer, c.sig.Level, c.proof = KindCAdES, layer, string(rep.Signers[n].Level), p
		r.Signatures = append(r.Signatures, j.sign(c))
		j.counters(r, sd, &rep.Signers[n], sd.Signers[n], layer, p)
	}
}

// counters judges the counter-signatures of the signature that was added last.
func (j *judge) counters(r *Report, sd *cms.SignedData, s *cades.SignerReport, si *cms.SignerInfo, layer int, p proof) {
	of := len(r.Signatures)
	infos, _ := si.CounterSigners() // what cannot be read is a warning already
	for n := range s.CounterSigners {
		c := fromCMS(&s.CounterSigners[n], sd, infos[n], nil)
		c.sig.Form, c.sig.Layer, c.sig.Level, c.proof = KindCAdES, layer, string(s.CounterSigners[n].Level), p
		out := j.sign(c)
		out.CounterSigns = of
		r.Signatures = append(r.Signatures, out)
		j.counters(r, sd, &s.CounterSigners[n], infos[n], layer, p)
	}
}

// fromCMS takes over what the libraries say of one signer; data is the content, nil when it is
// not there.
func fromCMS(s *cades.SignerReport, sd *cms.SignedData, si *cms.SignerInfo, data Source) *candidate {
	c := &candidate{others: sd.Certificates}
	c.sig = Signature{Certificate: s.Certificate, Claimed: s.SigningTime, Integrity: s.Intact(), Checks: shown(s.Checks()...), Warnings: s.Warnings}
	c.used = append(hashNamed("digest of the content", s.Hash), hashNamed("digest under the signature", s.ValueHash)...)
	for _, raw := range si.Unsigned(cms.OIDSignatureTimeStamp) {
		c.stamps = append(c.stamps, rawStamp{raw, []Source{inMemory(si.Signature)}})
	}
	for _, raw := range si.Signed(oidContentTimestamp) {
		if data != nil {
			c.contents = append(c.contents, rawStamp{raw, []Source{data}})
		}
	}
	if s.ESS.Verdict == cms.NotJudged {
		c.sig.Warnings = append(c.sig.Warnings, "the signature does not name its certificate (no signing-certificate attribute): it is not CAdES")
	}
	switch {
	case sd.Detached && data == nil && s.Digest.Verdict == cms.Failed:
		c.fault = unsure(SignedDataNotFound, "the signature is detached and what it signs was not given")
	case s.Digest.Verdict == cms.Failed && unsupported(s.Digest.Reason), s.Signature.Verdict == cms.Failed && unsupported(s.Signature.Reason):
		c.fault = unsure(Generic, s.Digest.Reason+s.Signature.Reason)
	case s.Digest.Verdict == cms.Failed && strings.Contains(s.Digest.Reason, "message-digest"), s.ContentType.Verdict == cms.Failed:
		c.fault = failed(FormatFailure, s.Digest.Reason+s.ContentType.Reason)
	case s.Digest.Verdict == cms.Failed:
		c.fault = failed(HashFailure, s.Digest.Reason)
	case s.Certificate == nil:
		c.fault = unsure(NoSigningCertificate, s.Signature.Reason)
	case s.Signature.Verdict == cms.Failed:
		c.fault = failed(SigCryptoFailure, s.Signature.Reason)
	case s.ESS.Verdict == cms.Failed:
		c.fault = unsure(NoSigningCertificate, s.ESS.Reason)
	case s.KeyUsage.Verdict == cms.Failed:
		c.fault = unsure(ChainConstraints, s.KeyUsage.Reason)
	}
	return c
}

// xml judges the signatures in a document.
func (j *judge) xml(r *Report, raw []byte, p proof, depth int) error {
	rep, err := xades.Verify(raw, xades.VerifyOptions{Intermediates: j.o.Intermediates})
	if err != nil {
		if bytes.Contains(raw, []byte("Signature")) && depth == 0 {
			r.Conclusion = failed(FormatFailure, err.Error())
		} else if depth > 0 && bytes.Contains(raw, []byte("http://www.w3.org/2000/09/xmldsig#")) {
			r.Signatures = append(r.Signatures, Signature{Form: KindXAdES, Conclusion: failed(FormatFailure, err.Error())})
		}
		return nil
	}
	for i := range rep.Signatures {
		c := fromXML(&rep.Signatures[i])
		c.others, c.proof = rep.Signatures[i].Certificates, p
		r.Signatures = append(r.Signatures, j.sign(c))
	}
	return nil
}

func fromXML(s *xades.SignatureReport) *candidate {
	check := func(name string, c xades.Check) cms.NamedCheck {
		return cms.NamedCheck{Name: name, Check: cms.Check{Verdict: cms.Verdict(c.Verdict), Reason: c.Reason}}
	}
	c := &candidate{}
	c.sig = Signature{Form: KindXAdES, Level: string(s.Level), Certificate: s.Certificate, Claimed: s.SigningTime, Warnings: s.Warnings,
		Integrity: s.Signature.Verdict == xades.Passed && s.References.Verdict == xades.Passed,
		Checks: shown(check("signature", s.Signature), check("digest", s.References), check("document", s.Document),
			check("signing certificate", s.Signer), check("signing time", s.Time), check("key usage", s.KeyUsage))}
	// The library reads SHA-1 and SHA-2 only, and tells of SHA-1 by a warning.
	hash := "SHA-2"
	if slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "SHA-1") }) {
		hash = "SHA-1"
	}
	c.used = hashNamed("digest", hash)
	for _, st := range s.Stamps {
		if st.Token == nil {
			c.sig.Warnings = append(c.sig.Warnings, "a time-stamp is not judged: "+st.Check.Reason)
			continue
		}
		c.stamps = append(c.stamps, rawStamp{st.Token, []Source{inMemory(st.Covered)}})
	}
	switch why := s.References.Reason; {
	case s.References.Verdict != xades.Failed:
	case strings.Contains(why, "is not what was signed"):
		c.fault = failed(HashFailure, why)
	case strings.Contains(why, "leaves the document"):
		c.fault = unsure(SignedDataNotFound, why)
	case unsupported(why):
		c.fault = unsure(Generic, why)
	default:
		c.fault = failed(FormatFailure, why)
	}
	if c.fault.Verdict == Failed {
		return c
	}
	switch {
	case s.Certificate == nil && s.Signature.Verdict == xades.Failed && !unsupported(s.Signature.Reason):
		c.fault = unsure(NoSigningCertificate, s.Signature.Reason)
	case s.Signature.Verdict == xades.Failed && unsupported(s.Signature.Reason):
		c.fault = unsure(Generic, s.Signature.Reason)
	case s.Signature.Verdict == xades.Failed:
		c.fault = failed(SigCryptoFailure, s.Signature.Reason)
	case c.fault.Verdict != "":
	case s.Document.Verdict == xades.Failed:
		c.fault = unsure(SigConstraints, s.Document.Reason)
	case s.Signer.Verdict == xades.Failed:
		c.fault = unsure(NoSigningCertificate, s.Signer.Reason)
	case s.KeyUsage.Verdict == xades.Failed:
		c.fault = unsure(ChainConstraints, s.KeyUsage.Reason)
	}
	return c
}

// pdf judges the signatures of a PDF, the last first: a document time-stamp that holds proves the
// age of all before it. spec: EN319102-1 §5.6.2; EN319142-1 §5.4.3
func (j *judge) pdf(r *Report, src Source, p proof) error {
	rep, err := pades.Verify(j.ctx, src, src.Size(), pades.VerifyOptions{Intermediates: j.o.Intermediates})
	if err != nil {
		if ctxErr := j.ctx.Err(); ctxErr != nil {
			return fmt.Errorf("validation: %w", ctxErr)
		}
		r.Conclusion = failed(FormatFailure, err.Error())
		return nil
	}
	r.Warnings = append(r.Warnings, rep.Warnings...)
	if rep.DSS != nil && rep.DSS.CRLs+rep.DSS.OCSPs > 0 {
		r.Warnings = append(r.Warnings, "the revocation data in the file is not read: give it by itself")
	}
	var signatures []Signature
	var stamps []Stamp
	for _, s := range slices.Backward(rep.Signatures) {
		fault := pdfFault(&s)
		if s.Kind == pades.KindTimestamp {
			st := Stamp{Kind: "document", Qualified: "undetermined", Conclusion: fault}
			if fault.Verdict == "" {
				b := s.ByteRange
				st = j.stamp(rawStamp{s.CMS, []Source{part{src, b[0], b[1]}, part{src, b[2], b[3]}}}, "document", p.at)
			}
			if st.Verdict == Passed {
				p = p.earlier(st.Time)
			}
			stamps = append(stamps, st)
			continue
		}
		c := fromPDF(&s, fault)
		c.proof = p
		signatures = append(signatures, j.sign(c))
	}
	slices.Reverse(signatures)
	slices.Reverse(stamps)
	r.Signatures = append(r.Signatures, signatures...)
	r.Stamps = append(r.Stamps, stamps...)
	return nil
}

func pdfFault(s *pades.SignatureReport) Conclusion {
	for _, c := range []cms.Check{s.Range, s.Format, s.Structure, s.ChangesAllowed} {
		if c.Verdict == cms.Failed {
			return failed(FormatFailure, c.Reason)
		}
	}
	if s.Structure.Verdict == cms.NotJudged {
		return unsure(SigConstraints, s.Structure.Reason)
	}
	return Conclusion{}
}

func fromPDF(s *pades.SignatureReport, fault Conclusion) *candidate {
	c := &candidate{fault: fault}
	if s.Signature != nil {
		if sd, err := cms.Parse(s.CMS); err == nil && len(sd.Signers) == 1 {
			// The document is the content and was hashed by the library; it is there.
			c = fromCMS(s.Signature, sd, sd.Signers[0], inMemory(nil))
			c.contents = nil
			if c.fault.Verdict != Failed && fault.Verdict != "" {
				c.fault = fault
			}
		}
	}
	c.sig.Form, c.sig.Field, c.sig.Level = KindPAdES, s.Field, string(s.Level)
	if c.sig.Claimed.IsZero() {
		c.sig.Claimed = s.Claimed
	}
	c.sig.Warnings = append(c.sig.Warnings, s.Warnings...)
	c.sig.Checks = append(c.sig.Checks, shown(cms.NamedCheck{Name: "byte range", Check: s.Range}, cms.NamedCheck{Name: "structure", Check: s.Structure},
		cms.NamedCheck{Name: "later changes", Check: s.ChangesAllowed}, cms.NamedCheck{Name: "format", Check: s.Format})...)
	return c
}
