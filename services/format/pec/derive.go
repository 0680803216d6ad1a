package pec

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// FactKind is what happened to a message that we sent.
type FactKind uint8

// SMTP facts are ours; the others come from verified receipts.
const (
	FactQueued FactKind = iota + 1
	FactSubmitted
	FactUnknown  // the connection went away after the end of the data
	FactRejected // a permanent reply of SMTP
	FactAccepted
	FactRefused
	FactNotice    // notice of missing delivery, 12 or 24 hours: Derive tells them apart
	FactDelivered // to Recipient
	FactFailed    // to Recipient, viruses included
	FactCancelled // a person decided that it is not to be sent, or not to be sent again
)

// Fact is one thing that is known. The state is a function of the set of facts: order and
// repetition change nothing.
type Fact struct {
	Kind           FactKind
	At             time.Time // of the event, from daticert
	Recipient      string
	Identificativo string
	Esterni        []string // of an acceptance: recipients without certified mail
	Cause          Cause
	Second         bool // a notice that its provider is known to send as the second one only
}

// FactOf turns a receipt into the fact that it certifies. Callers have asked Proven and Match
// before. ok is false for what is no receipt to a user. What errors mean is taken from the standard table.
func FactOf(r *Reading) (f Fact, ok bool) { return FactBy(r, nil) }

// FactBy is FactOf with a table of what errors mean to the provider that signed.
func FactBy(r *Reading, means Reasons) (f Fact, ok bool) {
	d := r.Daticert
	if d == nil {
		return Fact{}, false
	}
	at, err := d.Istante()
	if err != nil {
		return Fact{}, false
	}
	why := means.of(d)
	f = Fact{At: at.UTC(), Identificativo: TrimID(d.Identificativo), Recipient: d.Consegna, Cause: why.Cause}
	switch r.Tipo() {
	case Accettazione:
		f.Kind, f.Recipient = FactAccepted, ""
		for _, a := range d.Destinatari {
			if a.Esterno {
				f.Esterni = append(f.Esterni, a.Indirizzo)
			}
		}
	case NonAccettazione:
		f.Kind, f.Recipient = FactRefused, ""
	case AvvenutaConsegna:
		f.Kind = FactDelivered
	case ErroreConsegna:
		f.Kind = FactFailed
	case PreavvisoErrore:
		f.Kind, f.Second = FactNotice, why.SecondNotice
	default:
		return Fact{}, false
	}
	return f, true
}

// SendState is the state of a message that we sent.
type SendState string

// The states of a message, as the first rule that holds gives them.
const (
	SendQueued       SendState = "queued"
	SendSubmitted    SendState = "awaiting-acceptance"
	SendUnknown      SendState = "outcome-unknown"
	SendRejected     SendState = "rejected-by-smtp"
	SendRefused      SendState = "refused"
	SendAccepted     SendState = "accepted"
	SendDelivered    SendState = "delivered"
	SendPartly       SendState = "partly-delivered"
	SendNotDelivered SendState = "not-delivered"
	SendCancelled    SendState = "cancelled"
)

// RecipientState is the state for one recipient.
type RecipientState string

// The states of a recipient, the strongest first.
const (
	RecipientDelivered RecipientState = "delivered"
	RecipientFailed    RecipientState = "not-delivered"
	RecipientOverdue   RecipientState = "not-delivered-in-time" // 24 hour notice
	RecipientLate      RecipientState = "late"                  // 12 hour notice
	RecipientForwarded RecipientState = "forwarded-to-ordinary-mail"
	RecipientWaiting   RecipientState = "waiting"
)

// Recipient is one recipient's outcome.
type Recipient struct {
	Address string
	State   RecipientState
	Final   bool
	Late    bool // delivered after a notice
	At      time.Time
	Cause   Cause
}

// State is what the facts add up to.
type State struct {
	State          SendState
	Final          bool
	Implicit       bool // accepted as a receipt about a recipient shows, the acceptance itself is missing; in any state
	Identificativo string
	Recipients     []Recipient
	Settled        int
	Contradictions []string
}

const (
	secondNotice  = 22 * time.Hour // the second notice is not issued before. spec: RFC6109 §3.1.6
	silence       = 48 * time.Hour // after the second notice, then nobody waits any more
	missingNotice = 26 * time.Hour
)

// Derive computes the state of a message with these recipients from what is known at now. It is
// linear in facts and recipients. Contradictions (delivered and failed, two acceptances) are
// reported; nothing is dropped.
func Derive(recipients []string, facts []Fact, now time.Time) State {
	b := newBook(recipients, facts)
	s := State{Recipients: make([]Recipient, len(b.order))}
	final, delivered := 0, 0
	for i := range b.order {
		r := b.settle(i, now)
		s.Recipients[i] = r
		if r.Final {
			final++
		}
		if r.State == RecipientDelivered || r.State == RecipientForwarded {
			delivered++
		}
	}
	s.Settled = final
	slices.Sort(b.contradictions)
	s.Contradictions = slices.Compact(b.contradictions)
	if len(b.ids) > 0 {
		s.Identificativo = b.ids[0]
	}
	s.State, s.Final = b.overall(final, delivered)
	s.Implicit = b.receipts() && !b.has[FactAccepted]
	return s
}

// book sorts the facts by what they are about.
type book struct {
	order          []string // addresses as given, each once
	index          map[string]int
	by             [][]*Fact
	esterni        map[int]bool
	has            map[FactKind]bool
	ids            []string
	accepted       time.Time
	contradictions []string
}

func newBook(recipients []string, facts []Fact) *book {
	b := &book{index: make(map[string]int, len(recipients)), esterni: map[int]bool{}, has: map[FactKind]bool{}}
	for _, a := range recipients {
		key := person(a)
		if _, twice := b.index[key]; !twice {
			b.index[key] = len(b.order)
			b.order = append(b.order, a)
		}
	}
	b.by = make([][]*Fact, len(b.order))
	ids := map[string]bool{}
	for n := range facts {
		f := &facts[n]
		b.has[f.Kind] = true
		if f.Identificativo != "" {
			ids[f.Identificativo] = true
		}
		for _, e := range f.Esterni {
			if i, ours := b.index[person(e)]; ours {
				b.esterni[i] = true
			}
		}
		if f.Kind == FactAccepted && (b.accepted.IsZero() || f.At.Before(b.accepted)) {
			b.accepted = f.At
		}
		if f.Recipient == "" {
			continue
		}
		i, ours := b.index[person(f.Recipient)]
		if !ours {
			b.contradict("a receipt for %s, whom the message did not address", f.Recipient)
			continue
		}
		b.by[i] = append(b.by[i], f)
	}
	for id := range ids {
		b.ids = append(b.ids, id)
	}
	slices.Sort(b.ids)
	if len(b.ids) > 1 {
		b.contradict("the message was accepted %d times: %s", len(b.ids), strings.Join(b.ids, ", "))
	}
	if b.has[FactAccepted] && b.has[FactRefused] {
		b.contradict("the message was both accepted and refused")
	}
	return b
}

func (b *book) contradict(format string, args ...any) {
	b.contradictions = append(b.contradictions, fmt.Sprintf(format, args...))
}

// settle gives one recipient's state: a delivery wins over everything.
func (b *book) settle(i int, now time.Time) Recipient {
	r := Recipient{Address: b.order[i], State: RecipientWaiting}
	var delivered, failed *Fact
	var notices []time.Time
	var known time.Time // the second notice, by the word of its provider
	for _, f := range b.by[i] {
		switch f.Kind {
		case FactDelivered:
			delivered = earlier(delivered, f)
		case FactFailed:
			failed = earlier(failed, f)
		case FactNotice:
			notices = append(notices, f.At)
			if f.Second && (known.IsZero() || f.At.Before(known)) {
				known = f.At
			}
		}
	}
	slices.SortFunc(notices, time.Time.Compare)
	notices = slices.CompactFunc(notices, time.Time.Equal)
	second, overdue := b.second(notices)
	if !known.IsZero() && (!overdue || known.Before(second)) {
		second, overdue = known, true
	}
	switch {
	case delivered != nil:
		r.State, r.Final, r.At, r.Late = RecipientDelivered, true, delivered.At, len(notices) > 0
		if failed != nil {
			b.contradict("%s: delivered and not delivered", r.Address)
		}
	case failed != nil:
		r.State, r.Final, r.At, r.Cause = RecipientFailed, true, failed.At, failed.Cause
	case overdue:
		r.State, r.At, r.Final = RecipientOverdue, second, now.Sub(second) >= silence
	case len(notices) > 0:
		r.State, r.At = RecipientLate, notices[0]
	case b.esterni[i]:
		r.State, r.Final, r.At = RecipientForwarded, true, b.accepted
	}
	return r
}

func earlier(a, f *Fact) *Fact {
	if a == nil || f.At.Before(a.At) || f.At.Equal(a.At) && f.Cause < a.Cause {
		return f
	}
	return a
}

// second finds the 24 hour notice: the one issued 22 hours after the acceptance or later, or
// else the second of two.
func (b *book) second(notices []time.Time) (time.Time, bool) {
	for _, t := range notices {
		if !b.accepted.IsZero() && t.Sub(b.accepted) >= secondNotice {
			return t, true
		}
	}
	if len(notices) > 1 {
		return notices[len(notices)-1], true
	}
	return time.Time{}, false
}

// receipts says whether there is a receipt about a recipient, which only a message has that was accepted.
func (b *book) receipts() bool {
	return b.has[FactDelivered] || b.has[FactFailed] || b.has[FactNotice]
}

func (b *book) overall(final, delivered int) (SendState, bool) {
	receipts := b.receipts()
	switch {
	case b.has[FactRefused] && !b.has[FactAccepted] && !receipts:
		return SendRefused, true
	case (b.has[FactAccepted] || receipts) && final == len(b.order) && final > 0:
		switch delivered {
		case final:
			return SendDelivered, true
		case 0:
			return SendNotDelivered, true
		}
		return SendPartly, true
	case b.has[FactAccepted] || receipts:
		return SendAccepted, false
	case b.has[FactRejected]:
		return SendRejected, true
	case b.has[FactSubmitted]:
		return SendSubmitted, false
	case b.has[FactCancelled]: // and a receipt that comes all the same says more
		return SendCancelled, true
	case b.has[FactUnknown]:
		return SendUnknown, false
	}
	return SendQueued, false
}

// MissingNotices lists recipients about whom the provider has not said what it owed by then: neither a
// delivery nor the second notice, more than 26 hours after the acceptance. spec: RFC6109 §3.1.6
func (s State) MissingNotices(accepted, now time.Time) []string {
	var out []string
	if accepted.IsZero() || now.Sub(accepted) < missingNotice {
		return nil
	}
	for _, r := range s.Recipients {
		if r.owed() {
			out = append(out, r.Address)
		}
	}
	return out
}

// owed says whether the provider still has to say something within a day: a delivery, or the second notice.
func (r Recipient) owed() bool { return r.State == RecipientWaiting || r.State == RecipientLate }

// Next is the moment after now from which the same facts say more: a notice is missing from then on, or the waiting
// after the second notice ends. Zero: time changes nothing.
func (s State) Next(accepted, now time.Time) time.Time {
	var next time.Time
	at := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, r := range s.Recipients {
		switch {
		case r.owed() && !accepted.IsZero():
			at(accepted.Add(missingNotice))
		case r.State == RecipientOverdue && !r.Final:
			at(r.At.Add(silence))
		}
	}
	return next
}
