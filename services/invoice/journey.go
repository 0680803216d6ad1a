package invoice

import (
	"ceralacca.dev/proto/catalog"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
)

// facts is the set of what is known about an invoice. Events only ever add to it, so the order in
// which they come and how often cannot matter: the state is a function of the set.
type facts int32

// The facts. Their bits are stored: never renumber.
const (
	factSigned             facts = 1 << 0
	factSigningFailed      facts = 1 << 1
	factTransmitted        facts = 1 << 2
	factTransmissionFailed facts = 1 << 3
	factRC                 facts = 1 << 4  // ricevuta di consegna
	factMC                 facts = 1 << 5  // mancata consegna, or impossibilità di recapito
	factNS                 facts = 1 << 6  // notifica di scarto
	factEC01               facts = 1 << 7  // notifica di esito: accepted
	factEC02               facts = 1 << 8  // notifica di esito: refused
	factDT                 facts = 1 << 9  // decorrenza termini
	factAT                 facts = 1 << 10 // attestazione di avvenuta trasmissione
	factInCustody          facts = 1 << 11
	factPreserved          facts = 1 << 12
	factImported           facts = 1 << 16 // issued elsewhere, here for preservation only
)

// delivery is what SdI says only of a file that it has taken as good.
const delivery = factRC | factMC | factEC01 | factEC02 | factDT | factAT

func (f facts) has(any facts) bool { return f&any != 0 }

// stateOf reads the state off the facts: the latest station that is known to be reached.
//
// SdI sends an NS or a delivery, never both; should both be there, the delivery stands, since it is
// proved by a receipt towards the buyer. It relays the first NE only; of two, acceptance stands.
//
// spec: sdi private flow: sent -> NS | RC | MC; public: sent -> NS | RC | MC, MC -> RC | AT,
// RC -> NE | DT
func stateOf(f facts, publicBody bool) invoicev1.InvoiceState {
	switch {
	case f.has(factImported):
		return invoicev1.InvoiceState_INVOICE_STATE_IMPORTED
	case publicBody && f.has(factAT):
		return invoicev1.InvoiceState_INVOICE_STATE_ATTESTED
	case publicBody && f.has(factEC01):
		return invoicev1.InvoiceState_INVOICE_STATE_PA_ACCEPTED
	case publicBody && f.has(factEC02):
		return invoicev1.InvoiceState_INVOICE_STATE_PA_REFUSED
	case publicBody && f.has(factDT):
		return invoicev1.InvoiceState_INVOICE_STATE_PA_TERM_EXPIRED
	case f.has(factRC):
		return invoicev1.InvoiceState_INVOICE_STATE_DELIVERED
	case f.has(factMC) && publicBody:
		return invoicev1.InvoiceState_INVOICE_STATE_DELIVERY_PENDING
	case f.has(factMC):
		return invoicev1.InvoiceState_INVOICE_STATE_AVAILABLE_IN_RESERVED_AREA
	case f.has(factNS):
		return invoicev1.InvoiceState_INVOICE_STATE_REJECTED
	case f.has(factTransmitted):
		return invoicev1.InvoiceState_INVOICE_STATE_TRANSMITTED
	case f.has(factTransmissionFailed):
		return invoicev1.InvoiceState_INVOICE_STATE_FAILED
	case f.has(factSigned):
		return invoicev1.InvoiceState_INVOICE_STATE_SIGNED
	case f.has(factSigningFailed):
		return invoicev1.InvoiceState_INVOICE_STATE_FAILED
	}
	return invoicev1.InvoiceState_INVOICE_STATE_ACCEPTED
}

// settles reports whether the documents of the invoice are complete, so that they can go into
// custody: a private invoice with RC or MC; one to a public body with its outcome (NE or DT, which
// follow an RC) or its attestation. Never after NS alone: that invoice was not issued. Until the
// transmission is known too, what was sent is not, so settling waits for it.
func settles(f facts, publicBody bool) bool {
	if !f.has(factTransmitted) {
		return false
	}
	if !publicBody {
		return f.has(factRC | factMC)
	}
	return f.has(factAT) || (f.has(factRC) && f.has(factEC01|factEC02|factDT))
}

// freesNumbers reports whether the numbers of the file may be used again: after a rejection, and after
// a refusal by the public body. spec: AllA-1.9 control 00404
func freesNumbers(f facts) bool {
	if f.has(factEC02) {
		return !f.has(factEC01)
	}
	return f.has(factNS) && !f.has(delivery)
}

func publicBody(format string) bool { return catalog.IsPublicBody(format) }
