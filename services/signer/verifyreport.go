package signer

import (
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/validation"
	show "ceralacca.dev/services/format/validation/verdict"
)

func reportMessage(r *validation.Report, about show.File) (*signv1.VerificationReport, error) {
	out := &signv1.VerificationReport{
		Conclusion: conclusionMessage(r.Conclusion), Kind: r.Kind, At: when(r.At), Warnings: r.Warnings, Notes: about.Notes,
		FileSha256: about.SHA256, FileSize: about.Size,
	}
	for i := range r.Signatures {
		out.Signatures = append(out.Signatures, signatureReport(&r.Signatures[i]))
	}
	for i := range r.Stamps {
		out.TimeStamps = append(out.TimeStamps, stampReport(&r.Stamps[i]))
	}
	if c := r.Extracted; c != nil && !r.Given {
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(c, 0, c.Size())); err != nil {
			return nil, fmt.Errorf("signer: read content: %w", err)
		}
		out.Content = &signv1.VerifiedContent{Size: c.Size(), Sha256: h.Sum(nil)}
	}
	return out, nil
}

// when leaves a time out that is none.
func when(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

var verdicts = map[validation.Verdict]signv1.Verdict{
	validation.Passed:        signv1.Verdict_VERDICT_TOTAL_PASSED,
	validation.Indeterminate: signv1.Verdict_VERDICT_INDETERMINATE,
	validation.Failed:        signv1.Verdict_VERDICT_TOTAL_FAILED,
}

func conclusionMessage(c validation.Conclusion) *signv1.Conclusion {
	text := c.Text()
	return &signv1.Conclusion{Verdict: verdicts[c.Verdict], SubIndication: string(c.Sub), Reason: c.Reason, MeaningIt: text.IT, MeaningEn: text.EN}
}

func signatureReport(s *validation.Signature) *signv1.SignatureReport {
	out := &signv1.SignatureReport{
		Conclusion: conclusionMessage(s.Conclusion), Form: s.Form, Layer: int32(s.Layer), Field: s.Field, Level: s.Level, //nolint:gosec // a few layers
		Intact: s.Integrity, ClaimedTime: when(s.Claimed), BestSignatureTime: when(s.BestTime), Proven: s.Proven, Chain: chainMessage(s.Chain),
		Warnings: s.Warnings, CounterSigns: int32(s.CounterSigns), //nolint:gosec // a few signatures
		Qualification: &signv1.Qualification{
			Result: s.Qualification.Result, Reason: s.Qualification.Reason, Service: s.Qualification.Service, Country: s.Qualification.Country,
		},
	}
	if p := s.Signer; p != nil {
		out.Signer = &signv1.CertificateHolder{
			Name: p.Name, Id: p.ID, Organization: p.Organization, Country: p.Country, Subject: p.Subject, Issuer: p.Issuer, Serial: p.Serial,
		}
	}
	if s.Certificate != nil {
		out.Certificate = s.Certificate.Raw
	}
	for i := range s.Stamps {
		out.TimeStamps = append(out.TimeStamps, stampReport(&s.Stamps[i]))
	}
	for _, a := range s.Algorithms {
		out.Algorithms = append(out.Algorithms, &signv1.AlgorithmReport{Use: a.Use, Name: a.Name, Until: when(a.Until), ReliedOn: a.OK})
	}
	for _, c := range s.Checks {
		out.Checks = append(out.Checks, &signv1.CheckReport{Name: c.Name, Outcome: c.Outcome, Reason: c.Reason})
	}
	return out
}

func chainMessage(links []validation.Link) []*signv1.ChainLink {
	var out []*signv1.ChainLink
	for _, l := range links {
		out = append(out, &signv1.ChainLink{
			Subject: l.Subject, NotBefore: when(l.NotBefore), NotAfter: when(l.NotAfter), Anchor: l.Anchor,
			Revocation: l.Revocation, RevocationSource: l.Source, RevokeTime: when(l.RevokedAt),
		})
	}
	return out
}

func stampReport(s *validation.Stamp) *signv1.StampReport {
	return &signv1.StampReport{
		Conclusion: conclusionMessage(s.Conclusion), Kind: s.Kind, Time: when(s.Time), Authority: s.Authority, Chain: chainMessage(s.Chain), Qualified: s.Qualified,
	}
}
