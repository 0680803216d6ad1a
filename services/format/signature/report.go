package signature

import (
	"crypto/x509"
	"maps"
	"slices"
	"strings"
	"time"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/xades"
)

// Report is what is true of all signatures of a file.
type Report struct {
	Signatures []Signature
	// Findings are the controls of SdI (00100 to 00107) that the signatures fail.
	// They are apart from those of the invoice.
	Findings []fatturapa.Finding
	// Warnings are what is odd about a file without being against a control.
	Warnings []string
	// NeedsAuthority lists the codes of the controls of signatures that were not made
	// here, since they need a trusted list, a revocation list, or a time.
	NeedsAuthority []string
}

// Signed reports whether there is any signature.
func (r *Report) Signed() bool { return len(r.Signatures) > 0 }

// Holds reports whether there is a signature and none fails a check.
func (r *Report) Holds() bool {
	for i := range r.Signatures {
		if !r.Signatures[i].Holds() {
			return false
		}
	}
	return r.Signed()
}

// The two forms of signature that the format takes.
const (
	FormCAdES = "CAdES" // an envelope around the file (.p7m)
	FormXAdES = "XAdES" // an element in the XML
)

// Signature is what is true of one signature.
type Signature struct {
	Form string
	// Layer counts the envelopes from the outside, from 1; for a signature in the
	// XML it is the number of envelopes around it.
	Layer       int
	Level       string            // e.g. "CAdES-BES", "XAdES-BES"
	Algorithm   string            // e.g. "ECDSA with SHA-256"
	Certificate *x509.Certificate // nil when it is nowhere to be found
	SigningTime time.Time         // zero when it is not in the signature
	Checks      []cms.NamedCheck
	Warnings    []string
}

// Holds reports whether no check failed and the content is the one signed.
func (s *Signature) Holds() bool {
	intact := false
	for _, c := range s.Checks {
		if c.Verdict == cms.Failed {
			return false
		}
		intact = intact || c.Name == checkSignature && c.Verdict == cms.Passed
	}
	return intact
}

// Signer is the name of who signed, "" when the certificate is not there.
func (s *Signature) Signer() string {
	if s.Certificate == nil {
		return ""
	}
	return s.Certificate.Subject.String()
}

// Names of the checks that the codes below depend on; those of CMS.
const (
	checkSignature   = "signature"
	checkDigest      = "digest"
	checkContentType = "content type"
	checkTime        = "signing time"
	checkTrust       = "trust"
	checkUsage       = "key usage"
	checkCertificate = "signing certificate"
	checkStamp       = "time stamp"
	checkDocument    = "document"
)

func fromCAdES(s *cades.SignerReport, layer int) Signature {
	out := Signature{Form: FormCAdES, Layer: layer, Level: string(s.Level), Algorithm: s.Algorithm + " with " + s.Hash,
		Certificate: s.Certificate, SigningTime: s.SigningTime, Checks: s.Checks(), Warnings: s.Warnings}
	for _, st := range s.Stamps {
		out.Checks = append(out.Checks, cms.NamedCheck{Name: checkStamp, Check: st.Check})
	}
	return out
}

func fromXAdES(s *xades.SignatureReport, layer int) Signature {
	check := func(name string, c xades.Check) cms.NamedCheck {
		return cms.NamedCheck{Name: name, Check: cms.Check{Verdict: cms.Verdict(c.Verdict), Reason: c.Reason}}
	}
	return Signature{Form: FormXAdES, Layer: layer, Level: string(s.Level), Algorithm: s.Algorithm, Certificate: s.Certificate,
		SigningTime: s.SigningTime, Warnings: s.Warnings,
		Checks: []cms.NamedCheck{check(checkSignature, s.Signature), check(checkDigest, s.References), check(checkDocument, s.Document),
			check(checkCertificate, s.Signer), check(checkTime, s.Time), check(checkTrust, s.Trust), check(checkUsage, s.KeyUsage)}}
}

// add takes a signature into the report, with the controls that it fails. Of one
// whose integrity is lost nothing else can be relied on.
func (r *Report) add(s Signature, at time.Time) {
	r.Signatures = append(r.Signatures, s)
	failed := map[string]cms.NamedCheck{} // the first of each code
	for _, c := range s.Checks {
		code := s.codeOf(c, at)
		if _, seen := failed[code]; c.Verdict == cms.Failed && !seen {
			failed[code] = c
		}
	}
	if c, broken := failed["00102"]; broken {
		r.find("00102", &s, c.Name, c.Reason)
		return
	}
	if s.Certificate != nil && !at.IsZero() && at.After(s.Certificate.NotAfter) {
		r.find("00100", &s, "", s.Certificate.NotAfter.UTC().Format(time.RFC3339))
		delete(failed, "00104") // an expired certificate has no chain at that time: one fault, not two
	}
	if _, seen := failed["00103"]; s.SigningTime.IsZero() && !seen {
		failed["00103"] = cms.NamedCheck{Name: checkTime}
	}
	for _, code := range slices.Sorted(maps.Keys(failed)) {
		r.find(code, &s, failed[code].Name, failed[code].Reason)
	}
}

// codeOf is the control that a failed check is about.
//
// spec: AllA-1.9 §1.2.1; Elenco-2.0, controls 00100 to 00107
func (s *Signature) codeOf(c cms.NamedCheck, at time.Time) string {
	switch c.Name {
	case checkTime:
		switch {
		case s.SigningTime.IsZero():
			return "00103"
		case !at.IsZero() && s.SigningTime.After(at):
			return "00105"
		}
		return "00107"
	case checkTrust:
		return "00104"
	case checkUsage, checkCertificate:
		return "00107"
	}
	return "00102"
}

// control is the text of one control.
type control struct{ message, hint fatturapa.Text }

var controls = map[string]control{
	"00100": {fatturapa.Text{IT: "Il certificato di firma è scaduto", EN: "The signing certificate has expired"},
		fatturapa.Text{IT: "Firmare con un certificato valido; una marca temporale anteriore alla scadenza prova la firma", EN: "Sign with a valid certificate; a time stamp from before the end proves the signature"}},
	"00102": {fatturapa.Text{IT: "La firma non è valida: il contenuto o la firma sono stati alterati", EN: "The signature does not verify: content or signature were altered"},
		fatturapa.Text{IT: "Firmare di nuovo il file e trasferirlo in modo binario", EN: "Sign the file again and transfer it in binary mode"}},
	"00103": {fatturapa.Text{IT: "La firma non riporta il riferimento temporale (signing-time)", EN: "The signature has no signing time"},
		fatturapa.Text{IT: "Firmare in formato CAdES-BES o XAdES-BES con l'ora della firma", EN: "Sign as CAdES-BES or XAdES-BES with the signing time"}},
	"00104": {fatturapa.Text{IT: "La catena del certificato non porta a un'autorità riconosciuta", EN: "The chain of the certificate leads to no trusted authority"},
		fatturapa.Text{IT: "Firmare con un certificato di un certificatore nell'elenco di fiducia", EN: "Sign with a certificate of an authority on the trusted list"}},
	"00105": {fatturapa.Text{IT: "L'ora della firma è successiva alla ricezione", EN: "The signing time is after the time of receipt"},
		fatturapa.Text{IT: "Controllare l'orologio di chi firma", EN: "Check the clock of the signer"}},
	"00107": {fatturapa.Text{IT: "Il certificato di firma non è valido per firmare", EN: "The signing certificate is not valid for signing"},
		fatturapa.Text{IT: "Usare un certificato di firma, con l'uso della chiave nonRepudiation, nel suo periodo di validità", EN: "Use a certificate for signing, with key usage nonRepudiation, within its validity"}},
}

// checksIT are the names of the checks in Italian. The reasons come from the
// libraries of signatures, in English only, so the Italian gives the name alone.
var checksIT = map[string]string{
	checkSignature: "valore della firma", checkDigest: "impronta del contenuto", checkContentType: "tipo del contenuto",
	checkTime: "ora della firma", checkTrust: "catena dei certificati", checkUsage: "uso della chiave",
	checkCertificate: "certificato di firma", checkStamp: "marca temporale", checkDocument: "documento coperto",
}

// find adds a finding. The reason names the check that failed.
func (r *Report) find(code string, s *Signature, check, reason string) {
	c := controls[code]
	x := fatturapa.Finding{Code: code, Severity: fatturapa.SeverityError, Message: c.message, Hint: c.hint,
		Actual: strings.TrimSuffix(strings.TrimPrefix(check+": "+reason, ": "), ": "), ActualIT: checksIT[check], Clause: "AllA-1.9 §1.2.1 (" + code + "), Elenco-2.0"}
	if s.Form == FormXAdES {
		x.XPath = "//Signature"
	}
	r.Findings = append(r.Findings, x)
}

// needsAuthority names the controls that were not made: revocation (00101) and
// qualification (00107) always, expiry and time (00100, 00105) without a time,
// trust (00104) without roots.
func needsAuthority(r *Report, o Options) []string {
	if !r.Signed() {
		return nil
	}
	out := []string{"00101", "00107"}
	if o.At.IsZero() {
		out = append(out, "00100", "00105")
	}
	if o.Roots == nil || o.At.IsZero() {
		out = append(out, "00104")
	}
	slices.Sort(out)
	return out
}

// Control describes a control of signatures for documentation.
type Control struct {
	Code          string
	Message, Hint fatturapa.Text
}

// Controls lists the controls that this package makes, in order of code.
func Controls() []Control {
	var out []Control
	for _, code := range []string{"00100", "00102", "00103", "00104", "00105", "00107"} {
		out = append(out, Control{code, controls[code].message, controls[code].hint})
	}
	return out
}
