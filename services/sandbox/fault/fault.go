// Package fault keeps the faults that were ordered through the control API and hands them to
// the simulators, each as often as it was ordered. It owns the counting; what a fault does is
// the business of the simulator that takes it. It refuses kinds that no simulator plays.
package fault

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ceralacca.dev/services/sandbox/client"
)

// Requests are the kinds that hit RiceviFile requests.
var Requests = []string{
	client.FaultDelay, client.FaultCutBefore, client.FaultCutAfterAccept, client.FaultEI01, client.FaultEI02,
	client.FaultEI02Accepted, client.FaultEI03, client.FaultSOAP, client.FaultHTTP503,
}

// Receipts are the kinds that hit messages on their way back.
var Receipts = []string{
	client.FaultDuplicate, client.FaultReorder, client.FaultMalformed, client.FaultUnknownID, client.FaultWrongHash,
	client.FaultDrop, client.FaultUnsigned, client.FaultBadSig, client.FaultSlowNotice,
}

// The kinds that hit SDIFTP: taking a support, making one, putting a file.
var (
	FTPTake = []string{client.FaultFTPCutGet, client.FaultFTPKeep, client.FaultFTPER, client.FaultFTPET02, client.FaultFTPSilent}
	FTPSeal = []string{client.FaultFTPBadSignature}
	FTPPut  = []string{client.FaultFTPHalf, client.FaultFTPDuplicate, client.FaultFTPCutPut}
)

// Deliveries are the kinds that hit passive invoices on their way to a receiver, Outcomes those that hit what
// receivers answer.
var (
	Deliveries = []string{client.FaultDeliverTwice, client.FaultDeliverCut, client.FaultDeliverBadMT, client.FaultDeliverOtherMT, client.FaultDeliverApart}
	Outcomes   = []string{client.FaultOutcomeES02, client.FaultOutcomeES02Kept, client.FaultOutcomeCut, client.FaultOutcomeES00}
)

// Answers are the kinds that hit what SdI answers by certified mail, Letters those that hit each letter that it writes,
// asked or not.
var (
	Answers = []string{client.FaultLetterForged, client.FaultLetterAstray}
	Letters = []string{client.FaultLetterChanged, client.FaultLetterTwo, client.FaultLetterSimulation}
)

// Forgeries are the modes of forged letters, which are what certified mail calls its own with pec_ before them.
var Forgeries = []string{"unsigned", "bad_signature", "wrong_signer", "other_provider", "expired_signer", "early_signer"}

// MailRecipients are the kinds that hit RCPT commands, MailData those that hit DATA.
var (
	MailRecipients = []string{client.FaultMailReject}
	MailData       = []string{client.FaultMailDefer, client.FaultMailCut, client.FaultMailDelay}
)

// The kinds that hit certified mail: logins, submissions, the hop between providers, receipts,
// and the mailbox over IMAP.
var (
	PECAuth       = []string{client.FaultPECAuth}
	PECMail       = []string{client.FaultPECThrottle}
	PECRecipients = []string{client.FaultPECReject}
	PECData       = []string{client.FaultPECCutBefore, client.FaultPECCutAfter, client.FaultPECDefer}
	PECHop        = []string{client.FaultPECMX}
	PECReceipts   = []string{
		client.FaultPECDuplicate, client.FaultPECDrop, client.FaultPECLate, client.FaultPECBadSignature,
		client.FaultPECUnsigned, client.FaultPECWrongSigner, client.FaultPECBrokenMIME,
		client.FaultPECExpiredSigner, client.FaultPECEarlySigner, client.FaultPECOtherProvider, client.FaultPECNoSigner, client.FaultPECBareLF,
		client.FaultPECList, client.FaultPECWrongZone, client.FaultPECNoZone, client.FaultPECNoMsgID, client.FaultPECOtherMsgID,
		client.FaultPECOtherTipo, client.FaultPECUnknownTipo, client.FaultPECOtherRecipient, client.FaultPECDoctype, client.FaultPECTwoDaticert,
	}
	PECFetch = []string{client.FaultPECIMAPCut, client.FaultPECIMAPSlow}
	PECOpen  = []string{client.FaultPECIMAPSlow}
)

// A Registry holds the orders. The zero value is empty and ready. Safe for concurrent use.
type Registry struct {
	active atomic.Int64 // hits still to give, so that the usual case costs one load

	mu     sync.Mutex
	orders []*client.Fault
	nextID int
}

// maxCount bounds one order.
const maxCount = 1_000_000

// Add takes an order and returns it with its ID. Faults of the time-stamp authority are not
// kept here: the caller gives them to it.
func (r *Registry) Add(f client.Fault) (client.Fault, error) {
	kinds := slices.Concat(Requests, Receipts, Deliveries, Outcomes, FTPTake, FTPSeal, FTPPut, Answers, Letters, MailRecipients, MailData, PECAuth, PECMail, PECRecipients, PECData, PECHop, PECReceipts, PECFetch)
	if !slices.Contains(kinds, f.Kind) {
		return client.Fault{}, fmt.Errorf("kind %q is unknown; give one of %s, tsa", f.Kind, strings.Join(kinds, ", "))
	}
	if f.Count == 0 {
		f.Count = 1
	}
	if f.Count < 0 || f.Count > maxCount {
		return client.Fault{}, fmt.Errorf("count must be 1 to %d, is %d", maxCount, f.Count)
	}
	switch f.Kind {
	case client.FaultLetterForged:
		f.Mode = cmp.Or(f.Mode, Forgeries[0])
		if !slices.Contains(Forgeries, f.Mode) {
			return client.Fault{}, fmt.Errorf("mode %q is unknown; give one of %s", f.Mode, strings.Join(Forgeries, ", "))
		}
	case client.FaultPECLate:
		if f.After == "" {
			f.After = "1h"
		}
		if d, err := time.ParseDuration(f.After); err != nil || d <= 0 || d > 10_000*time.Hour {
			return client.Fault{}, fmt.Errorf("after %q must be a positive Go duration of at most 10000h", f.After)
		}
	case client.FaultDelay, client.FaultMailDelay, client.FaultSlowNotice, client.FaultPECIMAPSlow:
		if f.DelayMS < 1 || f.DelayMS > 600_000 {
			return client.Fault{}, fmt.Errorf("%s needs delay_ms between 1 and 600000, has %d", f.Kind, f.DelayMS)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nextID++
	f.ID, f.Hits = r.nextID, 0
	kept := f
	r.orders = append(r.orders, &kept)
	r.active.Add(int64(f.Count))
	return f, nil
}

// Event is something that a fault may hit.
type Event struct {
	Kinds       []string // those that the caller can play now
	Name        string
	Transmitter string
	Type        string
}

// Take gives the oldest order that matches, and counts it as played.
func (r *Registry) Take(e Event) (client.Fault, bool) {
	if r.active.Load() == 0 {
		return client.Fault{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.orders {
		if f.Count == 0 || !slices.Contains(e.Kinds, f.Kind) ||
			f.Name != "" && !strings.EqualFold(f.Name, e.Name) ||
			f.Transmitter != "" && f.Transmitter != e.Transmitter ||
			f.Type != "" && f.Type != e.Type {
			continue
		}
		f.Count--
		f.Hits++
		r.active.Add(-1)
		return *f, true
	}
	return client.Fault{}, false
}

// List shows all orders, spent ones included.
func (r *Registry) List() []client.Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]client.Fault, 0, len(r.orders))
	for _, f := range r.orders {
		out = append(out, *f)
	}
	return out
}

// Clear withdraws all orders.
func (r *Registry) Clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.orders = nil
	r.active.Store(0)
}
