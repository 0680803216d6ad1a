package sdigateway

import (
	"ceralacca.dev/services/format/sdi"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
)

// facts is the set of what is known about a transmission. The state is a function of the set, so
// messages may come in any order, again and again, or months late, and the result is the same.
type facts uint32

const (
	factSent facts = 1 << iota // SdI answered RiceviFile with an identifier
	factRC
	factMC
	factNS
	factEC01
	factEC02
	factDT
	factAT
)

// States as they are stored; the API's names are the same with their prefix.
const (
	stateReserved    = "RESERVED"
	stateSent        = "SENT"
	stateDelivered   = "DELIVERED"
	stateAvailable   = "AVAILABLE"
	statePending     = "DELIVERY_PENDING"
	stateRejected    = "REJECTED"
	stateAccepted    = "ACCEPTED"
	stateRefused     = "REFUSED"
	stateTermExpired = "TERM_EXPIRED"
	stateAttested    = "ATTESTED"
	formatPublic     = "FPA12"
)

// factOf says what a message proves. ok is false for a message that a transmitter never gets.
func factOf(m *sdi.Message) (facts, bool) {
	switch c := m.Contenuto.(type) {
	case *sdi.RicevutaConsegna:
		return factRC, true
	case *sdi.NotificaMancataConsegna:
		return factMC, true
	case *sdi.NotificaScarto:
		return factNS, true
	case *sdi.NotificaEsito:
		if c.EsitoCommittente.Esito == sdi.EC02 {
			return factEC02, true
		}
		return factEC01, true
	case *sdi.NotificaDecorrenzaTermini:
		return factDT, true
	case *sdi.AttestazioneTrasmissioneFattura:
		return factAT, true
	}
	return 0, false
}

// stateOf is the legal state of a transmission.
//
//	private  NS: not issued. RC: delivered. MC: issued, in the buyer's reserved area; final.
//	public   NS: not issued. NE: the body's answer, and it ends the matter: DT after it is noise.
//	         DT: the term passed without an answer, which is neither yes nor no.
//	         RC after MC: delivery succeeded in the end. AT: it never will; only without RC.
//
// spec: AllA-1.9 §1.4-1.6; SDICoop-T-3.2 §2
func stateOf(format string, f facts) string {
	switch {
	case f&factNS != 0:
		return stateRejected
	case f&factEC02 != 0:
		return stateRefused
	case f&factEC01 != 0:
		return stateAccepted
	case f&factDT != 0:
		return stateTermExpired
	case f&factRC != 0:
		return stateDelivered
	case f&factAT != 0:
		return stateAttested
	case f&factMC != 0 && format == formatPublic:
		return statePending
	case f&factMC != 0:
		return stateAvailable
	case f&factSent != 0:
		return stateSent
	}
	return stateReserved
}

// contradiction says in words which two facts cannot both be true; empty when all agree.
// The state is still computed: a person decides, nothing is lost.
func contradiction(format string, f facts) string {
	public := format == formatPublic
	switch {
	case f&factNS != 0 && f&(factRC|factMC|factEC01|factEC02|factDT|factAT) != 0:
		return "discarded (NS), and yet another message says that it was handled"
	case f&factEC01 != 0 && f&factEC02 != 0:
		return "accepted (EC01) and refused (EC02)"
	case f&factDT != 0 && f&(factEC01|factEC02) != 0:
		return "an outcome (NE) and the notice that none came (DT)"
	case f&factAT != 0 && f&factRC != 0:
		return "delivered (RC) and attested as undeliverable (AT)"
	case !public && f&factRC != 0 && f&factMC != 0:
		return "private invoice delivered (RC) and not deliverable (MC)"
	case !public && f&(factEC01|factEC02|factDT|factAT) != 0:
		return "a message of the public bodies' flow about a private invoice"
	}
	return ""
}

// repeatOfOurs says whether a discard only means that our own repeat of a doubtful call met the
// file of the first one: the name was taken because we took it. The real outcome comes under the
// identifier of the first call.
// spec: Elenco controlli 2.0, 00002 and 00404
func repeatOfOurs(attempts int32, ns *sdi.NotificaScarto) bool {
	if attempts < 2 || len(ns.ListaErrori) == 0 {
		return false
	}
	nameTaken := false
	for _, e := range ns.ListaErrori {
		switch e.Codice {
		case "00002":
			nameTaken = true
		case "00404":
		default:
			return false
		}
	}
	return nameTaken
}

func stateEnum(state string) sdiv1.TransmissionState {
	return sdiv1.TransmissionState(sdiv1.TransmissionState_value["TRANSMISSION_STATE_"+state])
}

func stateName(e sdiv1.TransmissionState) string {
	if e == sdiv1.TransmissionState_TRANSMISSION_STATE_UNSPECIFIED {
		return ""
	}
	return e.String()[len("TRANSMISSION_STATE_"):]
}
