package pecgateway

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/format/xades"
)

// registered is what a message of European registered mail says and what of it is proven. It is kept with the
// report. Nothing here is a fact about a message of ours: registered mail is no PEC.
// spec: EN319532-3 §6, §7
type registered struct {
	Verified bool                 `json:"verified"`
	Dispatch bool                 `json:"dispatch"`
	Event    string               `json:"event"`
	Reason   string               `json:"reason,omitempty"`
	ID       string               `json:"evidence_id,omitempty"`
	Original string               `json:"original_message_id,omitempty"`
	Policies []string             `json:"policies,omitempty"`
	Digest   string               `json:"digest,omitempty"`
	Evidence []registeredEvidence `json:"evidence,omitempty"`
}

// registeredEvidence is one evidence with its own signature.
type registeredEvidence struct {
	ID       string    `json:"id"`
	Event    string    `json:"event"`
	Reasons  []string  `json:"reasons,omitempty"`
	Time     time.Time `json:"time,omitzero"`
	Verified bool      `json:"verified"`
	Level    string    `json:"level,omitempty"`
	Signer   string    `json:"signer,omitempty"`
	Problem  string    `json:"problem,omitempty"`
}

// maxEvidence bounds how many evidences of one message are verified.
const maxEvidence = 20

// readRegistered reads and verifies a message of registered mail; nothing for any other.
func (j *judged) readRegistered(v pec.Verification) error {
	m, err := j.reading.ReadREM()
	if err != nil || m == nil {
		return err
	}
	out := &registered{
		Dispatch: m.Dispatch, Event: trim(m.Event, 100), Reason: trim(m.Reason, 100), ID: trim(m.EvidenceID, 300), Original: trim(m.UAMessageID, 500),
	}
	for _, p := range m.Policies[:min(len(m.Policies), maxEvidence)] {
		out.Policies = append(out.Policies, trim(p, 300))
	}
	if m.Original != nil && len(m.Digest) > 0 {
		out.Digest = or(m.DigestMatches, "differs")
	}
	sound := j.report.Status == pec.StatusValid && len(m.Evidence) > 0 && m.Findings.Worst() < pec.Doubt
	for i, e := range m.Evidence[:min(len(m.Evidence), maxEvidence)] {
		out.Evidence = append(out.Evidence, verifyEvidence(e, v, j.report.JudgedAt))
		sound = sound && out.Evidence[i].Verified
	}
	out.Verified = sound && len(m.Evidence) <= maxEvidence
	j.registered = out
	if j.signed() {
		j.kind = pecv1.MessageKind_MESSAGE_KIND_REGISTERED
	}
	j.doubtRegistered(m)
	return nil
}

// verifyEvidence checks the signature over one evidence, as of the moment at which the message was judged: its time-stamp
// is later than the event.
func verifyEvidence(e pec.REMEvidence, v pec.Verification, judged time.Time) registeredEvidence {
	out := registeredEvidence{ID: trim(e.ID, 300), Event: trim(e.Event, 100), Time: e.Time}
	for _, r := range e.Reasons[:min(len(e.Reasons), maxEvidence)] {
		out.Reasons = append(out.Reasons, trim(r, 100))
	}
	options := xades.VerifyOptions{At: judged}
	if v.Trust != nil {
		options.Roots, options.Intermediates = v.Trust.Roots, v.Trust.Intermediates
	}
	report, err := xades.Verify(e.XML, options)
	if err == nil {
		err = report.Err()
	}
	if report != nil && len(report.Signatures) > 0 {
		s := report.Signatures[0]
		out.Level = string(s.Level)
		if s.Certificate != nil {
			out.Signer = trim(s.Certificate.Subject.String(), 300)
		}
		if err == nil && s.Trust.Verdict != xades.Passed {
			out.Problem = trim("its signer is not known: "+s.Trust.Reason, 300)
			return out
		}
	}
	if err != nil {
		out.Problem = trim(err.Error(), 500)
		return out
	}
	out.Verified = true
	return out
}

// doubtRegistered says in words what is not proven.
func (j *judged) doubtRegistered(m *pec.REMMessage) {
	if j.report.Status != pec.StatusValid {
		j.doubts = append(j.doubts, "it claims to be registered mail, and its signature is "+string(j.report.Status))
		if j.report.Reason != "" {
			j.doubts = append(j.doubts, trim(j.report.Reason, 500))
		}
	}
	for _, f := range m.Findings {
		if f.Severity >= pec.Doubt && len(j.doubts) < 50 {
			j.doubts = append(j.doubts, trim(f.Code+": "+f.Message, 500))
		}
	}
	for _, e := range j.registered.Evidence {
		if e.Problem != "" && len(j.doubts) < 50 {
			j.doubts = append(j.doubts, trim("evidence "+e.ID+": "+e.Problem, 500))
		}
	}
}

func showRegistered(r *registered) *pecv1.RegisteredMail {
	if r == nil {
		return nil
	}
	out := &pecv1.RegisteredMail{
		Verified: r.Verified, Dispatch: r.Dispatch, Event: r.Event, Reason: r.Reason, EvidenceId: r.ID, OriginalMessageId: r.Original,
		Policies: r.Policies, OriginalDigest: r.Digest,
	}
	for _, e := range r.Evidence {
		shown := &pecv1.RegisteredMailEvidence{
			EvidenceId: e.ID, Event: e.Event, Reasons: e.Reasons, Verified: e.Verified, Level: e.Level, Signer: e.Signer, Problem: e.Problem,
		}
		if !e.Time.IsZero() {
			shown.Time = timestamppb.New(e.Time)
		}
		out.Evidence = append(out.Evidence, shown)
	}
	return out
}
