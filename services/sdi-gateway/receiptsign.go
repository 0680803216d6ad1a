package sdigateway

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/xades"
)

// sealReport is what the check of a message's signature found, as it is kept beside the message.
type sealReport struct {
	Verdict     string     `json:"verdict"` // HOLDS, BROKEN, ABSENT, UNREADABLE
	Signer      string     `json:"signer,omitempty"`
	Issuer      string     `json:"issuer,omitempty"`
	Algorithm   string     `json:"algorithm,omitempty"`
	SigningTime *time.Time `json:"signing_time,omitempty"`
	Trusted     bool       `json:"trusted,omitempty"`
	Findings    []string   `json:"findings,omitempty"`
}

// checkSeal judges SdI's signature on a message (XAdES enveloped, exclusive canonical XML, XPath Filter 2.0
// subtract). It changes nothing about what the message means: official examples carry none, and who delivers
// has shown the certificate of the channel. Without roots the signer is not judged.
// spec: SDICoop-T-3.2 §2.2
func checkSeal(m *sdi.Message, roots *x509.CertPool, now time.Time) sealReport {
	options := xades.VerifyOptions{RequireSigningTime: true}
	if roots != nil {
		options.Roots, options.At = roots, now
	}
	report, err := xades.Verify(m.XML, options)
	if err != nil {
		return sealReport{Verdict: "UNREADABLE", Findings: []string{err.Error()}}
	}
	if len(report.Signatures) == 0 {
		return sealReport{Verdict: "ABSENT"}
	}
	out := sealReport{Verdict: "HOLDS"}
	for i := range report.Signatures {
		s := &report.Signatures[i]
		if i == 0 {
			out.Algorithm, out.Trusted = s.Algorithm, s.Trust.Verdict == xades.Passed
			if !s.SigningTime.IsZero() {
				out.SigningTime = &s.SigningTime
			}
			if s.Certificate != nil {
				out.Signer, out.Issuer = s.Certificate.Subject.String(), s.Certificate.Issuer.String()
			}
		}
		for _, c := range []struct {
			name string
			xades.Check
			fatal bool
		}{
			{"signature", s.Signature, true}, {"references", s.References, true}, {"document", s.Document, true},
			{"signing certificate", s.Signer, true}, {"signing time", s.Time, false}, {"trust", s.Trust, false}, {"key usage", s.KeyUsage, false},
		} {
			if c.Verdict == xades.Passed {
				continue
			}
			if c.fatal && c.Verdict == xades.Failed {
				out.Verdict = "BROKEN"
			}
			if c.Reason != "" || c.Verdict == xades.Failed {
				out.Findings = append(out.Findings, fmt.Sprintf("%s %s: %s", c.name, c.Verdict, c.Reason))
			}
		}
	}
	return out
}

func (r sealReport) text() string {
	raw, err := json.Marshal(r)
	if err != nil {
		panic(err) // a struct of plain values
	}
	return string(raw)
}

// sealMessage reads a stored report; nil for messages that are older than the check.
func sealMessage(text string) *sdiv1.MessageSignature {
	var r sealReport
	if text == "" || json.Unmarshal([]byte(text), &r) != nil {
		return nil
	}
	out := &sdiv1.MessageSignature{
		Verdict: sdiv1.MessageSignature_Verdict(sdiv1.MessageSignature_Verdict_value["VERDICT_"+r.Verdict]),
		Signer:  r.Signer, Issuer: r.Issuer, Algorithm: r.Algorithm, Trusted: r.Trusted, Findings: r.Findings,
	}
	if r.SigningTime != nil {
		out.SigningTime = timestamppb.New(*r.SigningTime)
	}
	return out
}
