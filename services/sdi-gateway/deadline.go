package sdigateway

import (
	"time"

	"ceralacca.dev/services/format/sdi"
)

// Kinds of terms as they are stored; the API's names are the same with their prefix.
const (
	dueReceipt     = "RECEIPT"     // SdI owes a first message
	dueResend      = "RESEND"      // the customer owes a corrected invoice
	dueOutcome     = "OUTCOME"     // the public body may answer
	dueAttestation = "ATTESTATION" // SdI goes on trying to deliver to a public body
)

// Days of the terms.
const (
	receiptDays     = 5  // spec: AllA-1.9 §1.6: NS within 5 days of reception; RC and MC come in that time too
	resendDays      = 5  // circ. AdE 13/E 2018 §1.6
	outcomeDays     = 15 // spec: SDICoop-T-3.2 §2.2.5
	attestationDays = 10 // SdI retries for ten days after the MC
	issueDays       = 12 // art. 21 c. 4 DPR 633/1972: immediate invoices
	deferredDay     = 15 // of the next month: art. 21 c. 4 lett. a); art. 1 c. 3-bis D.Lgs. 127/2015
)

// moments are when the things happened that terms run from; zero for what has not happened.
type moments struct{ sent, rc, mc, ns time.Time }

// deadlineOf says which term runs in a state and when it ends. ok is false when none runs. It is a function of
// what is known, as the state is: whatever the order in which that came, the term is the same.
func deadlineOf(format, state string, m moments) (kind string, at time.Time, ok bool) {
	switch {
	case state == stateSent && !m.sent.IsZero():
		return dueReceipt, endOfDay(m.sent, receiptDays), true
	case state == stateRejected && !m.ns.IsZero():
		return dueResend, endOfDay(m.ns, resendDays), true
	case state == statePending && !m.mc.IsZero():
		return dueAttestation, endOfDay(m.mc, attestationDays), true
	case state == stateDelivered && format == formatPublic && !m.rc.IsZero():
		from := m.rc
		if !m.mc.IsZero() && m.mc.Before(from) {
			from = m.mc // delivered after a failure: the term runs from the first notice
		}
		return dueOutcome, endOfDay(from, outcomeDays), true
	}
	return "", time.Time{}, false
}

// endOfDay is the last second of the day that is n days after that of t, in Italy. The day of the event does
// not count (dies a quo). A term that would end on a holiday is not moved: none of the texts on SdI says so,
// and being early by a day harms nobody.
func endOfDay(t time.Time, n int) time.Time {
	y, m, d := t.In(sdi.Roma()).Date()
	return time.Date(y, m, d+n, 23, 59, 59, 0, sdi.Roma())
}

// sendBy is the last second in which the law lets a document of this type and date be sent: the fifteenth of the
// month after for deferred invoices and for integrations of foreign ones, else twelve days. Date is the ISO day
// of the document.
// spec: AllA-1.9 §3.2 (TD17, TD18, TD19, TD28); art. 21 DPR 633/1972 (TD24, TD25, and the twelve days)
func sendBy(tipo, date string) (time.Time, bool) {
	day, err := time.ParseInLocation(time.DateOnly, date[:min(len(date), len(time.DateOnly))], sdi.Roma())
	if err != nil {
		return time.Time{}, false
	}
	switch tipo {
	case "TD17", "TD18", "TD19", "TD24", "TD25", "TD28":
		return time.Date(day.Year(), day.Month()+1, deferredDay, 23, 59, 59, 0, sdi.Roma()), true
	}
	return endOfDay(day, issueDays), true
}

// told is how far a term has been told of.
const (
	toldNothing = 0
	toldNear    = 1
	toldPassed  = 2
)

// tell says what is to be told of a term now, if anything. Only the customer's own term is told ahead: nobody
// can do anything about the others before they have passed.
func tell(kind string, due time.Time, told int16, now time.Time, ahead time.Duration) int16 {
	switch {
	case due.Before(now):
		if told < toldPassed {
			return toldPassed
		}
	case kind == dueResend && told < toldNear && due.Add(-ahead).Before(now):
		return toldNear
	}
	return toldNothing
}
