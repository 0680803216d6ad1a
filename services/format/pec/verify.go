package pec

import (
	"bufio"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ceralacca.dev/services/format/cms"
)

// Status is what is proven about the signature of a message. Only StatusValid may advance a
// state without a person.
type Status string

// The outcomes, each excluding those before it in the order of the checks.
const (
	StatusUnsigned         Status = "unsigned"            // no S/MIME signature where one has to be
	StatusUnparsable       Status = "unparsable"          // a signature, or a structure, that allows no one reading
	StatusInvalidDigest    Status = "invalid-digest"      // the content is not what was signed
	StatusInvalidSignature Status = "invalid-signature"   // the signature does not verify, or breaks the rules of PEC
	StatusUntrusted        Status = "untrusted-signer"    // the signer is nobody who may sign this
	StatusUnlisted         Status = "valid-cert-unlisted" // chain and name hold, the certificate is not in the list: ask a person
	StatusEnded            Status = "valid-cert-ended"    // all holds at the moment that the signature states; the certificate had ended when the message came
	StatusValid            Status = "valid"
)

// Report is the record of one verification. It says by what and when it was judged, so that a
// later one under another list stands beside it.
type Report struct {
	Status  Status `json:"status"`
	Reason  string `json:"reason,omitempty"` // why not valid
	Outcome Tipo   `json:"type"`             // of the message: header and daticert agreed

	DigestAlgorithm    string    `json:"digest_algorithm,omitempty"`
	SignatureAlgorithm string    `json:"signature_algorithm,omitempty"`
	SigningTime        time.Time `json:"signing_time,omitzero"`
	CertificateSHA256  string    `json:"certificate_sha256,omitempty"`
	Subject            string    `json:"subject,omitempty"`
	Addresses          []string  `json:"addresses,omitempty"` // e-mail names of the certificate
	NotBefore          time.Time `json:"not_before,omitzero"`
	NotAfter           time.Time `json:"not_after,omitzero"`
	Chain              string    `json:"chain"`      // passed, failed, not-judged (with reason)
	Revocation         string    `json:"revocation"` // unknown, good or revoked, as the lists given say
	RevokedAt          time.Time `json:"revoked_at,omitzero"`

	Provider   string    `json:"provider,omitempty"` // name in the trust list
	TrustList  string    `json:"trust_list,omitempty"`
	CheckedAt  time.Time `json:"checked_at"`
	JudgedAt   time.Time `json:"judged_at"`            // the moment that certificates had to be valid at
	LineEnds   string    `json:"line_ends,omitempty"`  // "crlf-restored" when the copy had LF only
	Tolerances []string  `json:"tolerances,omitempty"` // what the CMS reader had to be patient with
	Findings   Findings  `json:"findings,omitempty"`   // doubts that come from the signer, besides those of the reading

	Certificate *x509.Certificate `json:"-"` // the signer's
}

// maxP7S bounds a signature: those of providers have a few kilobytes.
const maxP7S = 64 << 10

// Verification says what to judge a message by.
type Verification struct {
	Trust *TrustList
	// At is when certificates have to be valid: the time of receipt, since signing certificates
	// expire and old receipts stay true. Zero: the signing time in the signature when there is
	// one, else the moment in daticert.
	At time.Time
	// Now goes into the report as the time of the check.
	Now time.Time
	// Chains remembers chains that held, so that a mailbox full of receipts of one provider costs
	// one check of its chain. nil: each message is judged anew.
	Chains *ChainCache
	// Revocations are the lists that the caller has; nothing is fetched. Without one that covers
	// the moment, revocation is "unknown", which refuses nothing and is said.
	Revocations []*x509.RevocationList
	// Home is the own provider's name: an acceptance signed by another one is refused. "" skips it.
	Home string
}

// Verify judges the signature of a message: that the bytes are those signed, by whom, and
// whether that signer may say such a thing. It reads the signed bytes once (twice for a copy
// with LF line ends). An error is the source's; everything else is in the report.
// spec: RFC6109 §2.2.2, §5.5; RFC8551 §3.5.3
func (r *Reading) Verify(v Verification) (*Report, error) {
	rep := &Report{Outcome: r.Tipo(), CheckedAt: v.Now, Chain: string(cms.NotJudged), Revocation: RevocationUnknown}
	if v.Trust != nil {
		rep.TrustList = v.Trust.Version
	}
	if r.P7S == nil || r.Signed == nil {
		rep.Status, rep.Reason = StatusUnsigned, "no S/MIME signature"
		if r.Root.MediaType == "multipart/signed" {
			rep.Status, rep.Reason = StatusUnparsable, "multipart/signed without exactly one content and one S/MIME signature"
		}
		return rep, nil
	}
	sd, err := readP7S(r.P7S, v.Chains)
	if err != nil {
		if !errors.Is(err, errUnparsable) {
			return nil, err
		}
		rep.fail(StatusUnparsable, "%v", err)
		return rep, nil
	}
	if err := r.judgeSignature(rep, sd, v); err != nil {
		return nil, err
	}
	if rep.Status == "" {
		r.judgeSigner(rep, v)
	}
	if rep.Status == StatusUntrusted && r.signedBeforeEnd(rep) {
		return rep, r.judgeEnded(rep, v)
	}
	return rep, nil
}

func (rep *Report) fail(s Status, format string, args ...any) {
	if rep.Status == "" {
		rep.Status, rep.Reason = s, fmt.Sprintf(format, args...)
	}
}

// errUnparsable marks what is the message's fault, not the source's.
var errUnparsable = errors.New("the signature cannot be read")

func readP7S(p *Part, known *ChainCache) (*cms.SignedData, error) {
	raw, err := p.Bytes(maxP7S)
	if err != nil {
		if isLimit(err) {
			return nil, fmt.Errorf("%w: it has more than %d bytes", errUnparsable, maxP7S)
		}
		return nil, err
	}
	sd, err := known.parse(raw, cms.Limits{Size: maxP7S, Elements: 1 << 14})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnparsable, err)
	}
	return sd, nil
}

// judgeSignature applies the strict rules for a detached signature and checks it.
func (r *Reading) judgeSignature(rep *Report, sd *cms.SignedData, v Verification) error {
	if worst := r.structureFindings().Worst(); worst >= Ambiguous {
		rep.fail(StatusUnparsable, "the structure allows more than one reading: %s", firstOf(r.structureFindings(), Ambiguous))
	}
	if reason := strictShape(sd); reason != "" {
		rep.fail(StatusInvalidSignature, "%s", reason)
	}
	if len(sd.Signers) != 1 {
		return nil
	}
	rep.JudgedAt = r.judgedAt(sd, v)
	known := v.Chains.known(sd, rep.JudgedAt)
	result, err := r.check(sd, v, rep, known)
	if err != nil {
		return err
	}
	si := &result.Signers[0]
	rep.DigestAlgorithm, rep.SignatureAlgorithm, rep.SigningTime = si.Hash, si.Algorithm, si.SigningTime
	rep.Tolerances = append(result.Warnings, si.Warnings...)
	r.judgeClock(rep)
	if si.Hash == "SHA-1" {
		rep.Findings.add(CodeSHA1, Notice, -1, "signed over SHA-1, as providers do")
	}
	if si.Certificate != nil {
		rep.describe(si.Certificate)
		rep.Revocation, rep.RevokedAt = v.revocation(sd, si, rep.JudgedAt)
	}
	switch rep.Chain = string(si.Trust.Verdict); {
	case known:
		rep.Chain = string(cms.Passed)
	case si.Trust.Verdict == cms.Passed:
		v.Chains.keep(si.Certificate, si.Chain)
	case si.Trust.Reason != "":
		rep.Chain += ": " + si.Trust.Reason
	}
	switch {
	case si.Digest.Verdict != cms.Passed:
		rep.fail(StatusInvalidDigest, "%s", si.Digest.Reason)
	case si.ContentType.Verdict != cms.Passed:
		rep.fail(StatusInvalidSignature, "%s", si.ContentType.Reason)
	case si.Signature.Verdict != cms.Passed:
		rep.fail(StatusInvalidSignature, "%s", si.Signature.Reason)
	case si.ESS.Verdict == cms.Failed:
		rep.fail(StatusInvalidSignature, "%s", si.ESS.Reason)
	}
	return nil
}

// revocation says what the lists say of a signer.
func (v *Verification) revocation(sd *cms.SignedData, si *cms.SignerReport, at time.Time) (string, time.Time) {
	if len(v.Revocations) == 0 {
		return RevocationUnknown, time.Time{}
	}
	issuers := slices.Concat(sd.Certificates, v.anchors().Intermediates, si.Chain)
	return v.Chains.revocation(si.Certificate, issuers, v.Revocations, at)
}

// strictShape says why a SignedData is none that a provider makes: what a lax reader accepts
// there could be signed by somebody else, over something else.
func strictShape(sd *cms.SignedData) string {
	switch {
	case !sd.Detached:
		return "the signature brings its own content, which may be another one than the message's"
	case !sd.ContentType.Equal(cms.OIDData):
		return fmt.Sprintf("the signature is over content type %v, not data", sd.ContentType)
	case len(sd.Signers) == 0:
		return "there is no signature inside"
	case len(sd.Signers) != 1:
		return fmt.Sprintf("%d signatures, exactly 1 is expected", len(sd.Signers))
	case !sd.Announces(sd.Signers[0]):
		return "the signature's list of digest algorithms leaves its own out"
	case len(sd.Signers[0].SignedAttributes) == 0:
		return "the signature has no signed attributes"
	case sd.Trailing > 0:
		return fmt.Sprintf("%d bytes after the end of the signature", sd.Trailing)
	}
	return ""
}

// anchors are what the trust list brings to a verification.
func (v *Verification) anchors() cms.VerifyOptions {
	if v.Trust == nil {
		return cms.VerifyOptions{}
	}
	return cms.VerifyOptions{Roots: v.Trust.Roots, Intermediates: v.Trust.Intermediates}
}

// check verifies over the exact bytes, then, for a copy that was kept with LF alone, over the
// same bytes with CRLF. Nothing else is ever changed. spec: RFC8551 §3.1.1
func (r *Reading) check(sd *cms.SignedData, v Verification, rep *Report, known bool) (*cms.Report, error) {
	opts := v.anchors()
	opts.At = rep.JudgedAt
	if known {
		opts.Roots = nil
	}
	src := &countingReader{in: r.Signed.Raw()}
	opts.Content = src
	result := sd.Verify(opts)
	if src.err != nil {
		return nil, fmt.Errorf("pec: read signed part: %w", src.err)
	}
	if result.Signers[0].Digest.Verdict == cms.Passed || !(r.Findings.Has(CodeBareLF) || r.Findings.Has(CodeMixedEnds)) {
		return result, nil
	}
	src = &countingReader{in: r.Signed.Raw()}
	opts.Content = &crlfReader{in: bufio.NewReaderSize(src, 32<<10)}
	again := sd.Verify(opts)
	if src.err != nil {
		return nil, fmt.Errorf("pec: read signed part: %w", src.err)
	}
	if again.Signers[0].Digest.Verdict == cms.Passed {
		rep.LineEnds = "crlf-restored"
		return again, nil
	}
	return result, nil
}

func (r *Reading) judgedAt(sd *cms.SignedData, v Verification) time.Time {
	if !v.At.IsZero() {
		return v.At
	}
	if values := sd.Signers[0].Signed(cms.OIDSigningTime); len(values) == 1 {
		var t time.Time
		if rest, err := asn1.Unmarshal(values[0], &t); err == nil && len(rest) == 0 {
			return t
		}
	}
	if r.Daticert != nil {
		if t, err := r.Daticert.Istante(); err == nil {
			return t
		}
	}
	return v.Now
}

func (rep *Report) describe(c *x509.Certificate) {
	sum := sha256.Sum256(c.Raw)
	rep.Certificate, rep.CertificateSHA256 = c, hex.EncodeToString(sum[:])
	rep.Subject, rep.NotBefore, rep.NotAfter = c.Subject.String(), c.NotBefore, c.NotAfter
	rep.Addresses = c.EmailAddresses
}

// inOriginal says whether a finding is about the original, which may be as odd as its sender made it.
func (r *Reading) inOriginal(f Finding) bool {
	return r.Original != nil && f.Offset >= r.Original.BodyStart && f.Offset < r.Original.End
}

// structureFindings are those that bear on what was signed: everything above the original.
func (r *Reading) structureFindings() Findings {
	var out Findings
	for _, f := range r.Message.Findings {
		if !r.inOriginal(f) {
			out = append(out, f)
		}
	}
	for _, f := range r.Findings {
		switch f.Code {
		case CodeSeveralDaticert, CodeShape, CodeBothHeaders:
			out = append(out, f)
		}
	}
	return out
}

func firstOf(l Findings, s Severity) string {
	for _, f := range l {
		if f.Severity == s {
			return f.String()
		}
	}
	return ""
}

// judgeSigner asks whether this signer may sign for this sender. spec: RFC6109 §2.2.2, §5.5, §5.6
func (r *Reading) judgeSigner(rep *Report, v Verification) {
	if r.Nested {
		rep.fail(StatusUnparsable, "the signed part is inside a message that somebody rewrote")
		return
	}
	from, ok := soleAddress(r.Claim.From)
	if !ok {
		rep.fail(StatusUntrusted, "From names %d addresses, exactly 1 is expected", len(r.Claim.From))
		return
	}
	if len(rep.Addresses) != 1 || !SameAddress(rep.Addresses[0], from) {
		rep.fail(StatusUntrusted, "the certificate is for %q, the message is from %q", strings.Join(rep.Addresses, ", "), from)
		return
	}
	c := rep.Certificate
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0 || c.IsCA {
		rep.fail(StatusUntrusted, "the certificate may not sign mail (key usage)")
		return
	}
	if at := rep.JudgedAt; at.Before(c.NotBefore) || at.After(c.NotAfter) {
		rep.fail(StatusUntrusted, "at %s the certificate was not valid (%s to %s)", stamp(at), stamp(c.NotBefore), stamp(c.NotAfter))
		return
	}
	if rep.Revocation == RevocationRevoked {
		rep.fail(StatusUntrusted, "the certificate was revoked on %s", stamp(rep.RevokedAt))
		return
	}
	r.judgeProvider(rep, v, from)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func soleAddress(list []Address) (string, bool) {
	if len(list) != 1 || list[0].Addr == "" {
		return "", false
	}
	return list[0].Addr, true
}

// judgeProvider looks the certificate up in the list. A listed one is trusted as such: chains
// with SHA-1, which old providers have, cannot be judged any more.
func (r *Reading) judgeProvider(rep *Report, v Verification, from string) {
	p, withdrawn := v.Trust.find(rep.Certificate, rep.JudgedAt)
	if p == nil {
		switch {
		case !strings.HasPrefix(rep.Chain, string(cms.Passed)):
			rep.fail(StatusUntrusted, "the certificate is not in the trust list and its chain is %s", rep.Chain)
		case r.Claim.Tipo != TipoREM && !v.Trust.signsAs(from): // registered mail names its service otherwise
			rep.fail(StatusUntrusted, "the certificate is not in the trust list, and is for %q, as which no provider signs", from)
		default:
			rep.fail(StatusUnlisted, "the certificate is not in the trust list")
		}
		return
	}
	rep.Provider = p.Name
	switch {
	case withdrawn == nil:
	case withdrawn.From.IsZero():
		rep.fail(StatusUntrusted, "the trust list withdrew %s, as never to be trusted", withdrawn.what(p))
		return
	default:
		rep.fail(StatusUntrusted, "the trust list withdrew %s from %s on", withdrawn.what(p), stamp(withdrawn.From))
		return
	}
	if len(p.Signers) > 0 && !containsFold(p.Signers, from) {
		rep.fail(StatusUntrusted, "%s does not sign as %q", p.Name, from)
		return
	}
	if r.Claim.Tipo.Certified() {
		r.judgeAuthority(rep, v, p)
	}
	rep.fail(StatusValid, "")
}

// judgeAuthority: the provider of the sender accepts, that of the recipient delivers.
func (r *Reading) judgeAuthority(rep *Report, v Verification, p *Provider) {
	d := r.Daticert
	if d == nil {
		return
	}
	if !sameName(d.Gestore, p.Name) {
		rep.Findings.add(CodeIssuer, Notice, -1, "gestore-emittente is %q, the certificate is %q's", d.Gestore, p.Name)
	}
	switch t := r.Claim.Tipo; t {
	case Accettazione, NonAccettazione:
		if v.Home != "" && !sameName(v.Home, p.Name) {
			rep.fail(StatusUntrusted, "%s is signed by %s, the mailbox is %s's", t, p.Name, v.Home)
		}
	case AvvenutaConsegna, ErroreConsegna:
		domain := Domain(person(d.Consegna))
		m := v.Trust.Manager(domain)
		// the sender's provider tells about viruses and unknown domains. spec: RFC6109 §3.2.3.3
		own := t == ErroreConsegna && (p.Manages(Domain(person(d.Mittente))) || v.Home != "" && sameName(v.Home, p.Name))
		if m != nil && m != p && !own && !v.Trust.ManagedBy(domain, p.Name) {
			rep.Findings.add(CodeForeignDomain, Doubt, -1, "%s manages %s, %s signed", m.Name, domain, p.Name)
		}
	case PreavvisoErrore:
		v.judgeNotice(rep, d, p)
	}
}

// judgeNotice: the sender's provider waits for the delivery and tells when it does not come. spec: RFC6109 §2.1; the text of
// §3.1.6 can be read as if the recipient's did, whose notice is therefore odd and counts.
func (v Verification) judgeNotice(rep *Report, d *Daticert, p *Provider) {
	sender, recipient := Domain(person(d.Mittente)), Domain(person(d.Consegna))
	home := v.Trust.Manager(sender)
	switch {
	case v.Home != "" && sameName(v.Home, p.Name), v.Trust.ManagedBy(sender, p.Name):
	case v.Home == "" && home == nil:
	case v.Trust.ManagedBy(recipient, p.Name):
		rep.Findings.add(CodeForeignDomain, Notice, -1, "%s, which manages the recipient's %s, signed what the sender's provider has to tell", p.Name, recipient)
	default:
		rep.Findings.add(CodeForeignDomain, Doubt, -1, "%s signed, which manages neither the sender's %s nor the recipient's %s", p.Name, sender, recipient)
	}
}

// Proven says whether what the message certifies is a fact: the signature is valid, header and
// daticert agree, and nothing is doubtful. Only such a message may advance a state by itself.
func (r *Reading) Proven(rep *Report) bool {
	return rep != nil && rep.Status == StatusValid && r.sound(rep)
}

// ProvenBeforeEnd says whether a message would be proven, had it come before the certificate of its signer ended, a listed one: nothing but
// the word of a person can show that it was signed before.
func (r *Reading) ProvenBeforeEnd(rep *Report) bool {
	return rep != nil && rep.Status == StatusEnded && rep.Provider != "" && r.sound(rep)
}

// sound says whether header and daticert agree and nothing is doubtful.
func (r *Reading) sound(rep *Report) bool {
	if !r.Tipo().Certified() || rep.Findings.Worst() >= Doubt {
		return false
	}
	if r.Tipo() != BustaAnomalia && r.Daticert == nil {
		return false
	}
	for _, f := range r.Findings {
		if f.Severity >= Doubt && !r.inOriginal(f) {
			return false
		}
	}
	return true
}
