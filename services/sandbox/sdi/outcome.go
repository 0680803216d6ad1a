package sdi

import (
	"context"
	"strings"
	"time"

	"ceralacca.dev/services/format/sdi"
)

// Waits of the exchange, on the virtual clock.
// spec: AllA-1.9 §1.5
const (
	termOfOutcome  = 15 * 24 * time.Hour // RC to DT
	termOfDelivery = 10 * 24 * time.Hour // PA: MC to AT
	channelRetries = 18 * time.Hour      // private: four attempts, six hours apart, then MC
	pecSilence     = 40 * time.Hour      // private: no PEC receipt, then MC
	slow           = time.Hour
	almostExpired  = 14 * 24 * time.Hour
)

// step is one message that will follow. after counts from the message before it, the first
// one from reception.
type step struct {
	after time.Duration
	tipo  sdi.MessageType
	esito sdi.EsitoCommittente // NE only
	errs  []sdi.Errore         // NS only

	relayed *sdi.NotificaEsitoCommittente // NE only: what the receiver sent; nil for the magic codes
}

func discard(errs []sdi.Errore) []step { return []step{{tipo: sdi.NS, errs: errs}} }

// privateCodes are the magic recipient codes of seven characters.
var privateCodes = map[string][]step{
	"SBXRC00": {{tipo: sdi.RC}},
	"SBXMC00": {{tipo: sdi.MC}},
	"SBXMC18": {{after: channelRetries, tipo: sdi.MC}},
	"SBXMC40": {{after: pecSilence, tipo: sdi.MC}},
	"SBXSLOW": {{after: slow, tipo: sdi.RC}},
	"SBXNONE": {},
}

// publicCodes are the magic recipient codes of six characters.
var publicCodes = map[string][]step{
	"SBXRC0": {{tipo: sdi.RC}, {after: termOfOutcome, tipo: sdi.DT}},
	"SBXEC1": {{tipo: sdi.RC}, {tipo: sdi.NE, esito: sdi.EC01}},
	"SBXEC2": {{tipo: sdi.RC}, {tipo: sdi.NE, esito: sdi.EC02}},
	"SBXEL1": {{tipo: sdi.RC}, {after: almostExpired, tipo: sdi.NE, esito: sdi.EC01}},
	"SBXDT0": {{tipo: sdi.RC}, {tipo: sdi.DT}},
	"SBXMC0": {{tipo: sdi.MC}, {after: termOfDelivery, tipo: sdi.AT}},
	"SBXMCR": {{tipo: sdi.MC}, {tipo: sdi.RC}, {after: termOfOutcome, tipo: sdi.DT}},
	"SBXAT0": {{tipo: sdi.MC}, {tipo: sdi.AT}},
	"SBXSLO": {{after: slow, tipo: sdi.RC}, {after: termOfOutcome, tipo: sdi.DT}},
	"SBXNON": {},
}

// magicDiscard is the control that a recipient code orders: "SB" and five digits in the private
// flow, "N" and five digits towards public offices; "" for any other code.
func magicDiscard(doc *document) string {
	prefix := "SB"
	if doc.public() {
		prefix = "N"
	}
	code, ok := strings.CutPrefix(doc.code, prefix)
	if !ok || len(code) != 5 || strings.Trim(code, "0123456789") != "" {
		return ""
	}
	return code
}

// planFor is what happens to a file that passed the controls.
// spec: AllA-1.9 §1.5.5 for the codes that are not magic
func planFor(doc document) []step {
	if code := magicDiscard(&doc); code != "" {
		return discard([]sdi.Errore{errore(code, "")})
	}
	if doc.public() {
		if p, ok := publicCodes[doc.code]; ok {
			return p
		}
		return publicCodes["SBXRC0"]
	}
	if p, ok := privateCodes[doc.code]; ok {
		return p
	}
	switch {
	case doc.code == noChannel && doc.pec == "", doc.code == "XXXXXXX":
		return privateCodes["SBXMC00"] // reserved area; foreign buyer
	}
	return privateCodes["SBXRC00"]
}

// follow starts a plan.
func (e *Exchange) follow(f *file, plan []step) {
	e.mu.Lock()
	f.plan = plan
	f.judged = true
	if f.late && !f.needsBytes() {
		e.release(f)
	}
	e.mu.Unlock()
	e.proceed(f, 0, f.at.Add(e.cfg.ReceiptDelay))
}

// needsBytes says whether the file may go out again: the plan ends in an attestation, which carries it, or
// it is on its way to its receiver.
func (f *file) needsBytes() bool {
	if f.passive != nil {
		return !f.passive.over()
	}
	return len(f.plan) > 0 && f.plan[len(f.plan)-1].tipo == sdi.AT && f.state != stateAttested
}

// proceed makes message n of the plan when its time has come, counted from base.
func (e *Exchange) proceed(f *file, n int, base time.Time) {
	if n >= len(f.plan) {
		return
	}
	due := base.Add(f.plan[n].after)
	run := func(due time.Time) { e.judges.do(func(context.Context) { e.issue(f, n, due) }) }
	if f.plan[n].after == 0 && (n > 0 || e.cfg.ReceiptDelay == 0) {
		run(due)
		return
	}
	e.clock.At(due, run)
}

// outcomeState is the state of a file after a message.
func outcomeState(s *step) string {
	switch s.tipo {
	case sdi.NS:
		return stateDiscarded
	case sdi.RC:
		return stateDelivered
	case sdi.MC:
		return stateUndelivered
	case sdi.DT:
		return stateExpired
	case sdi.AT:
		return stateAttested
	case sdi.NE:
		if s.esito == sdi.EC02 {
			return stateRefused
		}
		return stateAccepted
	}
	return stateReceived
}
