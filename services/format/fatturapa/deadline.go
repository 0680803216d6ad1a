package fatturapa

import (
	"fmt"
	"time"
)

// Deadline is the last day for something, as the law gives it. A day that falls on a
// Saturday or holiday is not moved to the next working day, where the law would allow
// it: the day given is always in time.
type Deadline struct {
	Kind  DeadlineKind `json:"kind"`
	Day   Date         `json:"day"`   // the last day on which it is in time
	Basis Text         `json:"basis"` // the day from which it is counted
	Law   string       `json:"law"`
}

// DeadlineKind says what must be done by the day. The values are permanent.
type DeadlineKind string

// The kinds of deadline.
const (
	DeadlineIssue     DeadlineKind = "issue"     // send the document to SdI
	DeadlineResend    DeadlineKind = "resend"    // send a discarded document again
	DeadlineOutcome   DeadlineKind = "outcome"   // a public body accepts or refuses
	DeadlineStampDuty DeadlineKind = "stampDuty" // pay the stamp duty of a quarter
)

// Where the days of issue are counted from.
var (
	basisOperation = Text{"giorno dell'operazione", "day of the operation"}
	basisReceipt   = Text{"giorno di ricevimento della fattura", "day of receipt of the invoice"}
	basisPurchase  = Text{"giorno di ricevimento della fattura, o dell'operazione se il fornitore è fuori dall'Unione",
		"day of receipt of the invoice, or of the operation when the supplier is outside the Union"}
	basisOmitted = Text{"giorno entro cui il fornitore doveva emettere la fattura, o in cui l'ha emessa irregolare",
		"day by which the supplier had to issue the invoice, or on which an irregular one was issued"}
)

// IssueDeadline gives the last day on which a document may be sent to SdI, counted
// from the day that Basis names; for most types that is Data. ok is false for a day
// that is no date, and for the types that have no such term: notes (TD04, TD05, TD08,
// TD09), integrations of reverse charge (TD16, which have a term for the registers
// only), TD21, TD22 and TD23.
//
// spec: art. 21 c. 4 and art. 21-bis DPR 633/72 (twelve days; the fifteenth of the
// next month; for triangular sales the end of it); AllA-1.9 §3.2 (the fifteenth of
// the month after receipt or operation); art. 46 c. 5 DL 331/93 (the fifteenth of the
// third month); art. 6 c. 8 D.Lgs. 471/97 (ninety days)
func IssueDeadline(tipoDocumento string, day Date) (d Deadline, ok bool) {
	start, ok := day.Time()
	if !ok {
		return Deadline{}, false
	}
	d = Deadline{Kind: DeadlineIssue, Basis: basisOperation}
	switch tipoDocumento {
	case "TD01", "TD02", "TD03", "TD06", "TD26", "TD27":
		d.Day, d.Law = dateOf(start.AddDate(0, 0, 12)), "art. 21 c. 4 DPR 633/72"
	case "TD07":
		d.Day, d.Law = dateOf(start.AddDate(0, 0, 12)), "art. 21-bis e art. 21 c. 4 DPR 633/72"
	case "TD24":
		d.Day, d.Law = dayOfMonth(start, 1, 15), "art. 21 c. 4 lett. a DPR 633/72"
	case "TD25":
		d.Day, d.Law = dayOfMonth(start, 2, 0), "art. 21 c. 4 lett. b DPR 633/72"
	case "TD17", "TD19":
		d.Day, d.Basis, d.Law = dayOfMonth(start, 1, 15), basisPurchase, "art. 1 c. 3-bis D.Lgs. 127/2015; AllA-1.9 §3.2"
	case "TD18", "TD28":
		d.Day, d.Basis, d.Law = dayOfMonth(start, 1, 15), basisReceipt, "art. 1 c. 3-bis D.Lgs. 127/2015; AllA-1.9 §3.2"
	case "TD20":
		d.Day, d.Law = dayOfMonth(start, 3, 15), "art. 46 c. 5 DL 331/93"
	case "TD29":
		d.Day, d.Basis, d.Law = dateOf(start.AddDate(0, 0, 90)), basisOmitted, "art. 6 c. 8 D.Lgs. 471/97"
	default:
		return Deadline{}, false
	}
	return d, true
}

// ResendDeadline gives the last day on which a discarded document may be sent again
// with the same number and date: the fifth after the notice of rejection.
//
// spec: circolare Agenzia delle Entrate 13/E of 2018
func ResendDeadline(rejected Date) (Deadline, bool) {
	return counted(rejected, 5, DeadlineResend, Text{"giorno della notifica di scarto", "day of the notice of rejection"}, "circ. AdE 13/E/2018")
}

// OutcomeDeadline gives the last day on which a public body can accept or refuse:
// the fifteenth after delivery. Afterwards SdI sends the notice that the term is over.
//
// spec: DM 55/2013, Allegato B
func OutcomeDeadline(delivered Date) (Deadline, bool) {
	return counted(delivered, 15, DeadlineOutcome, Text{"giorno della ricevuta di consegna", "day of the receipt of delivery"}, "DM 55/2013, All. B")
}

// StampDutyDeadline gives the last day to pay the stamp duty of the invoices of a
// quarter, from 1 to 4. Small amounts of the first two quarters may be paid with
// those of the next one: that is the payer's choice and not reckoned here.
//
// spec: art. 6 c. 2 DM 17/6/2014
func StampDutyDeadline(year, quarter int) (Deadline, bool) {
	if year < 2019 || year > 9998 || quarter < 1 || quarter > 4 {
		return Deadline{}, false
	}
	// The last day of May, September and November, and of February in the next year.
	month := []time.Month{time.June, time.October, time.December, time.March}[quarter-1]
	if quarter == 4 {
		year++
	}
	return Deadline{Kind: DeadlineStampDuty, Day: dateOf(time.Date(year, month, 0, 0, 0, 0, 0, time.UTC)), Law: "art. 6 c. 2 DM 17/6/2014",
		Basis: Text{fmt.Sprintf("trimestre %d", quarter), fmt.Sprintf("quarter %d", quarter)}}, true
}

func counted(day Date, days int, kind DeadlineKind, basis Text, law string) (Deadline, bool) {
	start, ok := day.Time()
	if !ok {
		return Deadline{}, false
	}
	return Deadline{Kind: kind, Day: dateOf(start.AddDate(0, 0, days)), Basis: basis, Law: law}, true
}

// dayOfMonth is a day of the month so many months later; 0 is the last day of the
// month before that.
func dayOfMonth(t time.Time, months time.Month, day int) Date {
	return dateOf(time.Date(t.Year(), t.Month()+months, day, 0, 0, 0, 0, time.UTC))
}

func dateOf(t time.Time) Date { return Date(t.Format(time.DateOnly)) }
