package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/ers"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/trustlist"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/format/validation"
	"ceralacca.dev/services/format/xades"
)

// stampLine is one time-stamp of a file that has several.
type stampLine struct {
	Kind      string    `json:"kind"`
	Time      time.Time `json:"time,omitzero"`
	Authority string    `json:"authority,omitempty"`
	Holds     bool      `json:"holds"` // it is over what it should be over; trust is not judged
	Reason    string    `json:"reason,omitempty"`
}

// add notes facts about a file, in pairs; empty ones are left out.
func (d *description) add(pairs ...string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			d.Details = append(d.Details, named{pairs[i], pairs[i+1]})
		}
	}
}

// headerLine begins a mail message.
var headerLine = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*:[ \t]`)

// other describes what is neither an invoice, nor a message of SdI, nor a signed file, nor an archive;
// false when it is none of these either.
func (i *inspection) other(d *description, raw []byte) bool {
	if i.container(d, raw) {
		return true
	}
	switch {
	case bytes.HasPrefix(raw, []byte("-----BEGIN ")):
		return i.armoured(d, raw)
	case bytes.HasPrefix(raw, []byte("c2sp.org/tlog-proof@")):
		return receipt(d, raw)
	case len(raw) > 0 && raw[0] == 0x30:
		return i.structure(d, raw)
	case headerLine.Match(raw):
		return mailMessage(d, raw)
	}
	return false
}

// container describes PDF files, .tsd and .m7m with what is signed and stamped in them.
func (i *inspection) container(d *description, raw []byte) bool {
	r, err := validation.Validate(context.Background(), raw, validation.Options{At: i.at, Content: i.data})
	isPDF := bytes.Contains(raw[:min(len(raw), 1024)], []byte("%PDF-"))
	if err != nil {
		if isPDF && errors.Is(err, validation.ErrUnsigned) {
			d.Kind = "PDF without signatures"
		}
		return d.Kind != ""
	}
	kinds := map[string]string{validation.KindPAdES: "PDF with signatures", validation.KindTSD: "time-stamped data (.tsd)", validation.KindM7M: "time-stamped message (.m7m)"}
	if d.Kind = kinds[r.Kind]; d.Kind == "" {
		return false
	}
	for n := range r.Stamps {
		d.Stamps = append(d.Stamps, stampOf(&r.Stamps[n]))
	}
	if r.Kind != validation.KindPAdES && r.Content != nil && len(r.Signatures) == 0 {
		inner := i.describe(strings.TrimSuffix(d.File, filepath.Ext(d.File)), r.Content)
		if inner.Kind != "unknown" {
			d.Kind += " with " + inner.Kind
			d.Invoice, d.Message, d.Package = inner.Invoice, inner.Message, inner.Package
		}
	}
	for n := range r.Signatures {
		d.Signatures = append(d.Signatures, signatureOf(&r.Signatures[n]))
		for k := range r.Signatures[n].Stamps {
			d.Stamps = append(d.Stamps, stampOf(&r.Signatures[n].Stamps[k]))
		}
	}
	if r.Verdict == validation.Failed && r.Reason != "" {
		d.Problems = append(d.Problems, r.Reason)
	}
	return true
}

func stampOf(s *validation.Stamp) stampLine {
	out := stampLine{Kind: s.Kind, Time: s.Time, Authority: s.Authority, Reason: s.Reason}
	out.Holds = s.Verdict != validation.Failed && s.Sub != validation.SignedDataNotFound
	return out
}

func signatureOf(s *validation.Signature) signatureDescription {
	out := signatureDescription{Form: s.Form, Level: s.Level, SigningTime: s.Claimed, Checks: map[string]string{}, Holds: s.Integrity && s.Verdict != validation.Failed}
	if s.Signer != nil {
		out.Signer, out.Issuer = s.Signer.Subject, s.Signer.Issuer
	}
	var used []string
	for _, a := range s.Algorithms {
		if !slices.Contains(used, a.Name) {
			used = append(used, a.Name)
		}
	}
	out.Algorithm = strings.Join(used, ", ")
	for _, c := range s.Checks {
		out.Checks[c.Name] = strings.TrimSuffix(c.Outcome+": "+c.Reason, ": ")
	}
	return out
}

// armoured describes PEM. Of a private key nothing is told but that it is one.
func (i *inspection) armoured(d *description, raw []byte) bool {
	var certs []*x509.Certificate
	for rest := raw; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		switch {
		case strings.Contains(b.Type, "PRIVATE KEY"):
			d.Kind, d.Details = "private key ("+b.Type+"): keep it to yourself", nil
			return true
		case b.Type == "CERTIFICATE":
			c, err := x509.ParseCertificate(b.Bytes)
			if err != nil {
				d.Problems = append(d.Problems, err.Error())
				continue
			}
			certs = append(certs, c)
		default:
			return i.structure(d, b.Bytes)
		}
	}
	for _, c := range certs {
		d.certificate(c, i.at)
	}
	if len(certs) > 1 {
		d.Kind = fmt.Sprintf("%d certificates", len(certs))
	}
	return len(certs) > 0
}

func (d *description) certificate(c *x509.Certificate, at time.Time) {
	d.Kind = "certificate"
	if c.IsCA {
		d.Kind = "certificate of an authority"
	}
	state := "in force"
	switch {
	case at.Before(c.NotBefore):
		state = "not in force yet"
	case at.After(c.NotAfter):
		state = "ended"
	}
	use := ""
	if c.KeyUsage&x509.KeyUsageContentCommitment != 0 {
		use = "nonRepudiation (signatures)"
	} else if c.KeyUsage&x509.KeyUsageDigitalSignature != 0 {
		use = "digitalSignature"
	}
	d.add("subject", c.Subject.String(), "issuer", c.Issuer.String(), "serial number", hex.EncodeToString(c.SerialNumber.Bytes()),
		"from", c.NotBefore.UTC().Format(time.RFC3339), "until", c.NotAfter.UTC().Format(time.RFC3339), "state", state, "key usage", use,
		"signed with", c.SignatureAlgorithm.String(), "OCSP", strings.Join(c.OCSPServer, " "), "revocation list", strings.Join(c.CRLDistributionPoints, " "))
}

// structure describes DER by what can read it.
func (i *inspection) structure(d *description, raw []byte) bool {
	if c, err := x509.ParseCertificate(raw); err == nil {
		d.certificate(c, i.at)
		return true
	}
	if l, err := x509.ParseRevocationList(raw); err == nil {
		d.Kind = "certificate revocation list"
		d.add("issuer", l.Issuer.String(), "of", l.ThisUpdate.UTC().Format(time.RFC3339), "next", l.NextUpdate.UTC().Format(time.RFC3339), "revoked", strconv.Itoa(len(l.RevokedCertificateEntries)))
		return true
	}
	if r, err := x509.ParseCertificateRequest(raw); err == nil {
		d.Kind = "certificate request (PKCS #10)"
		d.add("subject", r.Subject.String(), "key", r.PublicKeyAlgorithm.String())
		if err := r.CheckSignature(); err != nil {
			d.Problems = append(d.Problems, "the request is not signed with its own key: "+err.Error())
		}
		return true
	}
	if r, err := ocsp.ParseResponse(raw, nil); err == nil {
		d.Kind = "OCSP response"
		status := map[int]string{ocsp.Good: "good", ocsp.Revoked: "revoked", ocsp.Unknown: "unknown"}[r.Status]
		d.add("status", status, "serial number", hex.EncodeToString(r.SerialNumber.Bytes()), "of", r.ThisUpdate.UTC().Format(time.RFC3339))
		if r.Status == ocsp.Revoked {
			d.add("revoked", r.RevokedAt.UTC().Format(time.RFC3339))
		}
		return true
	}
	if r, err := tsp.ParseRequest(raw); err == nil {
		d.Kind = "time stamp request (RFC 3161)"
		d.add("algorithm", r.Hash.String(), "digest", hex.EncodeToString(r.Digest), "certificate wanted", strconv.FormatBool(r.CertReq))
		return true
	}
	if r, err := tsp.ParseResponse(raw); err == nil && r.Err() != nil {
		d.Kind = "time stamp response without a time stamp"
		d.Problems = append(d.Problems, plain(r.Err()))
		return true
	}
	if e, err := cms.ParseEnveloped(raw); err == nil {
		d.Kind = "encrypted file (CMS EnvelopedData)"
		d.add("cipher", e.Cipher.String(), "recipients", strconv.Itoa(len(e.Recipients)))
		return true
	}
	if r, err := ers.Parse(raw); err == nil {
		d.Kind = "evidence record (RFC 4998)"
		stamps := 0
		for _, c := range r.Chains {
			stamps += len(c.Stamps)
		}
		d.add("chains", strconv.Itoa(len(r.Chains)), "time stamps", strconv.Itoa(stamps))
		return true
	}
	return false
}

func receipt(d *description, raw []byte) bool {
	r, err := tlog.ParseReceipt(raw)
	if err != nil {
		d.Kind = "receipt of a log"
		d.Problems = append(d.Problems, err.Error())
		return true
	}
	d.Kind = "receipt of a log (tlog-proof)"
	d.add("leaf", strconv.FormatInt(r.Index, 10), "with its entry", strconv.FormatBool(r.Entry != nil), "with a time stamp", strconv.FormatBool(r.Stamp != nil))
	if origin, _, ok := strings.Cut(string(r.Checkpoint), "\n"); ok {
		d.add("log", origin)
	}
	return true
}

// mailMessage describes a message: certified mail claims what it is, and inspect does not prove it.
func mailMessage(d *description, raw []byte) bool {
	m, err := pec.ReadBytes(raw)
	if err != nil || m.Root.Header.Get("From") == "" && m.Root.Header.Get("Message-ID") == "" && m.Root.Header.Get("Date") == "" {
		return false
	}
	d.Kind = "message"
	if m.Claim.Value != "" {
		d.Kind = "message of certified mail that claims to be: " + m.Claim.Value
	}
	var from []string
	for _, a := range m.Claim.From {
		from = append(from, strings.TrimSpace(a.Name+" <"+a.Addr+">"))
	}
	signed := "no"
	if m.P7S != nil {
		signed = "yes (judge it with the pec-gateway, which knows the providers)"
	}
	d.add("from", strings.Join(from, ", "), "subject", m.Claim.Subject, "date", m.Root.Header.Get("Date"), "identifier", m.Claim.MessageID, "signed", signed)
	if c := m.Daticert; c != nil {
		d.add("certification", c.Tipo, "provider", c.Gestore, "at", strings.TrimSpace(c.Giorno+" "+c.Ora+" "+c.Zona), "provider's identifier", c.Identificativo, "of the message", c.MsgID, "delivered to", c.Consegna)
	}
	return true
}

// otherXML describes trusted lists and signed XML of any kind.
func (i *inspection) otherXML(d *description, raw []byte) bool {
	if l, err := trustlist.Parse(raw); err == nil {
		d.Kind = "trusted list of " + l.Territory
		if l.LOTL {
			d.Kind = "list of the trusted lists"
		}
		d.add("sequence number", strconv.Itoa(l.Sequence), "issued", l.Issued.UTC().Format(time.RFC3339), "replaced by", l.Next.UTC().Format(time.RFC3339),
			"services", strconv.Itoa(len(l.Services)), "pointers", strconv.Itoa(len(l.Pointers)))
	}
	r, err := xades.Verify(raw, xades.VerifyOptions{})
	if err != nil || len(r.Signatures) == 0 {
		return d.Kind != ""
	}
	if d.Kind == "" {
		d.Kind = "signed XML"
	}
	v, err := validation.Validate(context.Background(), raw, validation.Options{At: i.at})
	if err != nil {
		d.Problems = append(d.Problems, plain(err))
		return true
	}
	for n := range v.Signatures {
		d.Signatures = append(d.Signatures, signatureOf(&v.Signatures[n]))
		for k := range v.Signatures[n].Stamps {
			d.Stamps = append(d.Stamps, stampOf(&v.Signatures[n].Stamps[k]))
		}
	}
	return true
}

// showOther prints what the kinds of this file have.
func (c *cli) showOther(d *description) {
	if len(d.Details) > 0 {
		fmt.Fprintln(c.out)
		for _, n := range d.Details {
			c.fields(n.Name, printable(n.Value))
		}
	}
	for n, s := range d.Stamps {
		holds := "holds"
		if !s.Holds {
			holds = "DOES NOT HOLD"
		}
		fmt.Fprintf(c.out, "\ntime stamp %d (%s) %s\n", n+1, s.Kind, holds)
		when := ""
		if !s.Time.IsZero() {
			when = s.Time.UTC().Format(time.RFC3339)
		}
		c.fields("time", when, "authority", printable(s.Authority), "reason", s.Reason)
	}
}
