package pec

import (
	"strings"
	"time"
)

// Names of recipients that ask for an outcome. Everything after "+" is free, so that one message
// can have several of a kind: muta+1@beta.test, muta+2@beta.test.
const (
	// at the point of access
	magicSilent     = "ignorata"       // 250, and nothing more is ever heard
	magicRefused    = "non-accettata"  // non-accettazione
	magicVirusHere  = "virus-accesso"  // non-accettazione per virus
	magicLateAccept = "accetta-tardi"  // the acceptance comes an hour after everything else
	magicNoDomain   = "no-dominio"     // errore-consegna no-dominio, by the sender's provider
	magicReject     = "permerror"      // 550 to RCPT
	magicDefer      = "temperror"      // 451 to RCPT
	magicCut        = "taglia"         // the connection is cut after the message, not taken
	magicCutTaken   = "taglia-accetta" // the same, message taken

	// at the points of reception and delivery
	magicMute       = "muta"         // neither taken in charge nor delivered: notices at 12 and 24 hours
	magicTaken      = "presa"        // taken in charge, never delivered: the notice at 24 hours alone
	magicAfter      = "dopo-"        // dopo-13h, dopo-30h: delivered that much later, silent until then
	magicUnknown    = "inesistente"  // errore-consegna no-dest
	magicFull       = "piena"        // errore-consegna 5.2.2
	magicVirus      = "virus"        // virus found at reception
	magicTwice      = "doppia"       // delivery receipt twice
	magicBoth       = "contraddetta" // errore-consegna, then the delivery receipt
	magicNoReceipt  = "senza-ricevuta"
	magicUnsigned   = "falsa"          // delivery receipt without signature
	magicPerson     = "altra-firma"    // delivery receipt signed by a person
	magicAltered    = "alterata"       // delivery receipt with one byte changed
	magicBrokenMIME = "troncata"       // delivery receipt cut off
	magicNoTaken    = "consegna-prima" // delivered without being taken in charge
)

// magic gives the outcome that an address asks for, "" when it asks for none; of magicAfter also
// the delay.
func magic(address string) (string, time.Duration) {
	local, _, _ := strings.Cut(strings.ToLower(address), "@")
	local, _, _ = strings.Cut(local, "+")
	switch local {
	case magicSilent, magicRefused, magicVirusHere, magicLateAccept, magicNoDomain, magicReject, magicDefer, magicCut, magicCutTaken,
		magicMute, magicTaken, magicUnknown, magicFull, magicVirus, magicTwice, magicBoth, magicNoReceipt, magicUnsigned,
		magicPerson, magicAltered, magicBrokenMIME, magicNoTaken:
		return local, 0
	}
	if rest, ok := strings.CutPrefix(local, magicAfter); ok {
		if d, err := time.ParseDuration(rest); err == nil && d > 0 && d < 10_000*time.Hour {
			return magicAfter, d
		}
	}
	return "", 0
}

// asks says whether one of the recipients, of a domain of ours, asks for an outcome.
func (w *World) asks(to []string, outcome string) bool {
	for _, a := range to {
		if m, _ := magic(a); m == outcome && w.manager(a) != nil {
			return true
		}
	}
	return false
}
