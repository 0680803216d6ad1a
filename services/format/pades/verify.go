package pades

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/tsp"
)

// VerifyOptions says what to judge by; see cades.VerifyOptions.
type VerifyOptions struct {
	Roots         *x509.CertPool // of signers; nil: trust is not judged
	TSARoots      *x509.CertPool // of time-stamp authorities; nil: their trust is not judged
	Intermediates []*x509.Certificate
	At            time.Time // time of judgement; zero: trust is not judged
	// RequireContentCommitment wants keyUsage nonRepudiation, as an Italian signing certificate has.
	RequireContentCommitment bool
	// AllowAnnotations lets comments be added after a signature that says nothing about it, as
	// some readers do. By default only filling in, further signatures and validation data may.
	AllowAnnotations bool
	Limits           Limits
}

// Verify judges every signature of a PDF. The error is that of a file that cannot be read; a
// signature that does not hold is in the report. Memory does not grow with the file; each
// signature hashes what it covers. Errors: see Prepare.
// spec: ISO32000-1 §12.8; EN319142-1 §6.3
func Verify(ctx context.Context, src io.ReaderAt, size int64, o VerifyOptions) (*Report, error) {
	d, err := open(src, size, o.Limits)
	if err != nil {
		return nil, err
	}
	r := &Report{Signatures: []SignatureReport{}, Revisions: len(d.sections)}
	if d.repaired != "" {
		r.Warnings = append(r.Warnings, "the cross-reference table is broken and was rebuilt: other readers may see another document ("+d.repaired+")")
	}
	found, err := d.signatures()
	if err != nil {
		return nil, err
	}
	if r.Certified, err = d.certification(); err != nil {
		return nil, err
	}
	if r.DSS, err = d.dss(); err != nil {
		return nil, err
	}
	dssAt := map[int64]bool{} // ends of time-stamped revisions that held a security store
	for _, s := range found {
		v := &verification{ctx: ctx, d: d, s: s, o: o}
		if err := v.run(); err != nil {
			return nil, err
		}
		dssAt[s.end()] = v.hasDSS
		r.Signatures = append(r.Signatures, v.r)
	}
	setLevels(r, dssAt)
	orphans, err := d.orphans(ctx, found)
	if err != nil {
		return nil, err
	}
	r.Warnings = append(r.Warnings, orphans...)
	return r, nil
}

// verification judges one signature.
type verification struct {
	ctx    context.Context
	d      *document
	s      *signed
	o      VerifyOptions
	r      SignatureReport
	hasDSS bool
}

// run fails only for what is not the signature's own fault: limits, the source, the context.
func (v *verification) run() error {
	s := v.s
	v.r = SignatureReport{Field: s.field, Kind: s.kind, SubFilter: string(s.subFilter), ByteRange: s.byteRange}
	v.stated()
	if s.rangeErr != "" {
		why := unjudged("the byte range does not hold")
		v.r.Range, v.r.Structure, v.r.ChangesAllowed, v.r.Format = fail("%s", s.rangeErr), why, why, why
		return nil
	}
	v.r.Range = pass("")
	if err := v.revision(); err != nil {
		return err
	}
	if s.kind == KindTimestamp {
		return v.timestamp()
	}
	return v.signature()
}

// stated takes over what the dictionary says. spec: ISO32000-1 §12.8.1 table 252
func (v *verification) stated() {
	read := func(k name) string {
		o, err := v.d.resolve(v.s.d.get(k))
		if t, ok := o.(text); ok && err == nil {
			return decodeText(t.val)
		}
		return ""
	}
	if v.s.d == nil {
		return
	}
	v.r.Name, v.r.Reason, v.r.Location = read("Name"), read("Reason"), read("Location")
	if m := read("M"); m != "" {
		var ok bool
		if v.r.Claimed, ok = parseDate(m); !ok {
			v.r.Warnings = append(v.r.Warnings, fmt.Sprintf("the stated time %q is not a date", m))
		}
	}
	p, ok, err := v.d.transform(v.s.d, "DocMDP")
	if ok && err == nil {
		v.r.Certification = Certification(min(max(integer(p.get("P"), int64(FormsAndSigning)), 1), 3))
	}
}

// content reads the signed bytes and hears a caller who gave up.
func (v *verification) content() io.Reader {
	b := v.s.byteRange
	return &heeding{v.ctx, io.MultiReader(io.NewSectionReader(v.d.src, 0, b[1]), io.NewSectionReader(v.d.src, b[2], b[3]))}
}

type heeding struct {
	ctx context.Context
	r   io.Reader
}

func (h *heeding) Read(p []byte) (int, error) {
	if err := h.ctx.Err(); err != nil {
		return 0, err
	}
	return h.r.Read(p)
}

// own tells errors of the signature from those that end the verification.
func (v *verification) own(err error) bool {
	var limit *LimitError
	return v.ctx.Err() == nil && !errors.As(err, &limit)
}

// revision judges the signed bytes as a document, and what came after them.
func (v *verification) revision() error {
	end := v.s.end()
	rest, err := v.after(end)
	if err != nil {
		return err
	}
	old, err := openWith(v.d.src, end, v.d.lim, v.d.work, false)
	if err == nil {
		err = v.holds(old)
	}
	whole := rest != restMore
	switch {
	case err == nil:
		v.r.Structure = pass("")
		dss, dssErr := old.dss()
		v.hasDSS = dssErr == nil && dss != nil
	case !v.own(err):
		return err
	case whole && v.d.repaired != "":
		v.r.Structure = unjudged("the cross-reference table is broken: readers may differ on what the signed bytes show")
	default:
		v.r.Structure = fail("%v", err)
	}
	if whole {
		v.r.WholeFile = true
		v.r.ChangesAllowed = pass("nothing came after")
		if rest == restSpace {
			v.r.Warnings = append(v.r.Warnings, fmt.Sprintf("%d bytes of white space after the end are not signed", v.d.size-end))
		}
		return nil
	}
	for _, at := range v.d.sections {
		if at >= end {
			v.r.Later++
		}
	}
	switch {
	case err != nil:
		v.r.ChangesAllowed = unjudged("the signed revision cannot be read")
	case v.d.repaired != "":
		v.r.Modification = Content
		v.r.ChangesAllowed = fail("what came after the signature has a broken cross-reference table")
	case v.r.Later == 0:
		v.r.Modification = Content
		v.r.ChangesAllowed = fail("%d bytes after the signed range belong to no revision", v.d.size-end)
	default:
		return v.changes(old)
	}
	return nil
}

const (
	restNone = iota
	restSpace
	restMore
)

// after says what follows the signed range; a little white space is no revision.
func (v *verification) after(end int64) (int, error) {
	n := v.d.size - end
	if n == 0 {
		return restNone, nil
	}
	if n > 64 {
		return restMore, nil
	}
	b := make([]byte, n)
	if err := v.d.readAt(b, end); err != nil {
		return 0, err
	}
	for _, c := range b {
		if !isSpace(c) {
			return restMore, nil
		}
	}
	return restSpace, nil
}

// holds: the revision that was signed has this signature in a field.
func (v *verification) holds(old *document) error {
	list, err := old.signatures()
	if err != nil {
		return err
	}
	for _, s := range list {
		if s.rangeErr == "" && s.byteRange == v.s.byteRange && s.field == v.s.field {
			return nil
		}
	}
	return syntax(v.s.end(), "the signed bytes, read as a document, do not hold this signature in the field %q", v.s.field)
}

func (v *verification) changes(old *document) error {
	c, err := compare(v.ctx, old, v.d)
	if err != nil {
		if !v.own(err) {
			return err
		}
		v.r.Modification = Content
		v.r.ChangesAllowed = fail("what came after the signature cannot be read: %v", err)
		return nil
	}
	v.r.Modification, v.r.Changes = c.worst, c.changes
	if c.visible > 0 {
		v.r.Warnings = append(v.r.Warnings, fmt.Sprintf("%d visible boxes of later signatures may cover what was signed", c.visible))
	}
	most, why := FormFilling, "a signature"
	switch c.certified {
	case NoChanges:
		most, why = LongTerm, "a certification that forbids changes"
	case FormsAndSigning:
		why = "a certification for forms and signatures"
	case AnnotationsAsWell:
		most, why = Annotations, "a certification"
	case NotCertified:
		if v.o.AllowAnnotations {
			most = Annotations
		}
	}
	if c.worst <= most {
		v.r.ChangesAllowed = pass("changes after the signature: %s", c.worst)
		return nil
	}
	first := slices.IndexFunc(c.changes, func(x Change) bool { return x.Kind > most })
	if first < 0 {
		first = 0
	}
	v.r.ChangesAllowed = fail("changes of the kind %q came after, which %s does not allow (object %d: %s)", c.worst, why, c.changes[first].Object, c.changes[first].What)
	return nil
}

// signature judges the CMS. spec: EN319142-1 §6.3; ISO32000-1 §12.8.3.3
func (v *verification) signature() error {
	switch v.s.subFilter {
	case "ETSI.CAdES.detached", "adbe.pkcs7.detached":
	default:
		v.r.Format = fail("SubFilter %q is not supported: ETSI.CAdES.detached and adbe.pkcs7.detached are", v.s.subFilter)
		return nil
	}
	sd, err := cms.Parse(v.s.contents)
	if err != nil {
		v.r.Format = fail("%v", err)
		return nil
	}
	rep := cades.Judge(sd, cades.VerifyOptions{Roots: v.o.Roots, TSARoots: v.o.TSARoots, Intermediates: v.o.Intermediates,
		At: v.o.At, Content: v.content()})
	if err := v.ctx.Err(); err != nil {
		return fmt.Errorf("pades: %w", err)
	}
	v.r.Format = pass("")
	v.r.Level = LevelCMS
	switch {
	case len(rep.Signers) != 1:
		v.r.Format = fail("the CMS holds %d signatures, exactly 1 is expected", len(rep.Signers))
		return nil
	case sd.Armour != cms.ArmourNone:
		v.r.Format = fail("the CMS is text (%s), binary is expected", sd.Armour)
		return nil
	case !sd.Detached:
		v.r.Format = fail("the CMS carries a content of its own, which is not the document")
		return nil
	case !padding(v.s.contents, sd.Trailing):
		v.r.Format = fail("bytes other than zero are hidden after the CMS, where nothing is signed")
	}
	v.r.CMS = v.s.contents[:len(v.s.contents)-sd.Trailing]
	v.r.Signature = &rep.Signers[0]
	v.usage()
	if v.s.subFilter != "ETSI.CAdES.detached" {
		return nil
	}
	if v.r.Signature.ESS.Verdict == cms.NotJudged {
		v.r.Format = fail("the signing-certificate attribute is missing, which ETSI.CAdES.detached promises")
		return nil
	}
	if v.r.Signature.Level != cades.LevelCMS {
		v.r.Level = LevelBB
	}
	if sd.Signers[0].Signed(cms.OIDSigningTime) != nil {
		v.r.Warnings = append(v.r.Warnings, "the CMS has a signing-time attribute, which PAdES does not allow")
	}
	if v.s.d.has("Cert") {
		v.r.Warnings = append(v.r.Warnings, "the signature dictionary has the key Cert, which PAdES does not allow")
	}
	if v.r.Claimed.IsZero() {
		v.r.Warnings = append(v.r.Warnings, "the signature dictionary states no time (M)")
	}
	return nil
}

// usage: spec: EN319412-2 §4.3.2
func (v *verification) usage() {
	cert := v.r.Signature.Certificate
	if v.o.RequireContentCommitment && cert != nil && cert.KeyUsage&x509.KeyUsageContentCommitment == 0 {
		v.r.Signature.KeyUsage = fail("the certificate is not for signing: keyUsage lacks nonRepudiation")
	}
}

// timestamp judges a document time-stamp. spec: EN319142-1 §5.4.3
func (v *verification) timestamp() error {
	end := derLength(v.s.contents)
	if !padding(v.s.contents, len(v.s.contents)-end) {
		v.r.Format = fail("bytes other than zero are hidden after the token, where nothing is signed")
	}
	tok, err := tsp.ParseToken(v.s.contents[:end])
	if err != nil {
		v.r.Format = fail("%v", err)
		return nil
	}
	if end == len(v.s.contents) { // without a length of its own
		end -= tok.Signed.Trailing
		if !padding(v.s.contents, tok.Signed.Trailing) {
			v.r.Format = fail("bytes other than zero are hidden after the token, where nothing is signed")
		}
	}
	v.r.CMS = v.s.contents[:end]
	h := tok.Info.Hash.New()
	if _, err := io.Copy(h, v.content()); err != nil {
		return fmt.Errorf("pades: %w", err)
	}
	if v.r.Format.Verdict == "" {
		v.r.Format = pass("")
	}
	v.r.Stamp = &cades.StampReport{Time: tok.Info.Time, Check: pass("")}
	err = tok.Verify(tsp.VerifyOptions{Digest: h.Sum(nil), Roots: v.o.TSARoots, Intermediates: v.o.Intermediates})
	if err != nil {
		v.r.Stamp.Check = fail("%v", err)
	} else if !v.o.At.IsZero() && tok.Info.Time.After(v.o.At.Add(time.Minute)) {
		v.r.Stamp.Check = fail("stamped at %s, after the time of judgement", tok.Info.Time.Format(time.RFC3339))
	}
	return nil
}

// setLevels raises levels by what the file holds beside each signature. spec: EN319142-1 §6.3
func setLevels(r *Report, dssAt map[int64]bool) {
	for i := range r.Signatures {
		s := &r.Signatures[i]
		if s.Level != LevelBB {
			continue
		}
		stamped := s.Signature != nil && s.Signature.Level == cades.LevelT
		archived := false
		for _, later := range r.Signatures[i+1:] {
			if later.Kind == KindTimestamp && later.Err() == nil {
				stamped = true
				archived = archived || dssAt[later.Revision()]
			}
		}
		complete := r.DSS != nil && r.DSS.Certificates > 0 && r.DSS.CRLs+r.DSS.OCSPs > 0
		switch {
		case stamped && complete && archived:
			s.Level = LevelLTA
		case stamped && complete:
			s.Level = LevelLT
		case stamped:
			s.Level = LevelBT
		}
	}
}

// orphans finds byte ranges that no signature of the form has: a signature that was taken out of
// the form leaves its dictionary in the file. It looks at bytes, so that it can be told things by
// attachments too: warnings, no verdict.
func (d *document) orphans(ctx context.Context, found []*signed) ([]string, error) {
	const window = 256 << 10
	key := []byte("/ByteRange")
	var out []string
	buf := make([]byte, window+len(key))
	for off := int64(0); off < d.size; off += window {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("pades: %w", err)
		}
		b := buf[:min(int64(len(buf)), d.size-off)]
		if err := d.readAt(b, off); err != nil {
			return nil, err
		}
		for at := 0; ; {
			i := bytes.Index(b[at:], key)
			if i < 0 || at+i >= window || len(out) >= maxChanges {
				break
			}
			at += i + len(key)
			if v, ok := d.rangeAt(off + int64(at)); ok && !slices.ContainsFunc(found, func(s *signed) bool { return s.byteRange == v }) {
				out = append(out, fmt.Sprintf("at byte %d is a signature dictionary that no field of the form refers to", off+int64(at-len(key))))
			}
		}
	}
	return out, nil
}

func (d *document) rangeAt(off int64) (v [4]int64, ok bool) {
	var a array
	err := d.parse(off, func(l *lexer) error {
		l.left = 8 // an array of four, and nothing longer
		o, err := l.object(0)
		a, _ = o.(array)
		return err
	})
	if err != nil || len(a) != 4 {
		return v, false
	}
	for i := range a {
		if v[i], ok = a[i].(int64); !ok {
			return v, false
		}
	}
	return v, true
}
