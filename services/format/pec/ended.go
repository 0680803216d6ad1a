package pec

import "strings"

// signedBeforeEnd says whether a certificate that had ended when the message came was valid at the moment that the signature
// states, and daticert, where the type has one, agrees about that moment. Mail that was copied to another provider bears the
// day of the copying.
func (r *Reading) signedBeforeEnd(rep *Report) bool {
	if rep.Certificate == nil || !rep.JudgedAt.After(rep.NotAfter) || rep.SigningTime.Before(rep.NotBefore) || rep.SigningTime.After(rep.NotAfter) {
		return false
	}
	if r.Daticert == nil {
		return r.Claim.Tipo == BustaAnomalia
	}
	at, err := r.Daticert.Istante()
	return err == nil && sameMoment(rep.SigningTime, at)
}

// judgeEnded asks whether everything else holds: as of the moment that the signature states, and what is known since (a
// revocation, a withdrawal) as of the moment when the message came. It is never proven by itself: whoever has the key of a
// certificate that has ended dates what he likes.
func (r *Reading) judgeEnded(rep *Report, v Verification) error {
	if rep.Revocation == RevocationRevoked {
		return nil
	}
	if _, withdrawn := v.Trust.find(rep.Certificate, rep.JudgedAt); withdrawn != nil {
		return nil
	}
	v.At = rep.SigningTime
	then, err := r.Verify(v)
	if err != nil || then.Status != StatusValid && then.Status != StatusUnlisted {
		return err
	}
	rep.Status, rep.Provider, rep.Findings = StatusEnded, then.Provider, then.Findings
	why := []string{"the certificate ended on " + stamp(rep.NotAfter) + " and the message came on " + stamp(rep.JudgedAt),
		"only the signature itself says that it was made before, on " + stamp(rep.SigningTime)}
	if then.Reason != "" {
		why = append(why, then.Reason)
	}
	rep.Reason = strings.Join(why, "; ")
	return nil
}
