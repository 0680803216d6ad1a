package pec

import "time"

// clockSlack is how far the moments that one provider writes into one message may be apart. They are one moment by the
// rules; a queue may hold a message for a while before it is signed. spec: RFC6109 §4.1
const clockSlack = 15 * time.Minute

// judgeClock compares the moment in daticert with the one of the signature: a wrong zona moves the legal time by hours.
func (r *Reading) judgeClock(rep *Report) {
	if r.Daticert == nil || rep.SigningTime.IsZero() {
		return
	}
	at, err := r.Daticert.Istante()
	if err != nil {
		return // a finding of its own
	}
	if !sameMoment(rep.SigningTime, at) {
		rep.Findings.add(CodeClock, Notice, -1, "daticert says %s (zona %s), the signature was made at %s", stamp(at), r.Daticert.Zona, stamp(rep.SigningTime))
	}
}

// sameMoment says whether two moments of one message are one by the rules.
func sameMoment(a, b time.Time) bool { return a.Sub(b).Round(time.Second).Abs() <= clockSlack }
