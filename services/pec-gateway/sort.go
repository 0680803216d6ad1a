package pecgateway

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// sorted is what the rules of a mailbox want done with a message.
type sorted struct {
	folder  string
	forward string // address
	notify  bool
}

// isOrdinary: mail that is not certified, and what claims to be without any provider's signature. Mail that a provider
// signed whom no list names waits for a person and is not touched.
func (j *judged) isOrdinary() bool {
	return j.kind == pecv1.MessageKind_MESSAGE_KIND_ORDINARY || j.kind == pecv1.MessageKind_MESSAGE_KIND_ANOMALY
}

func (j *judged) isReceipt() bool { return j.tipo.Receipt() && !j.isOrdinary() }

// fits says whether a rule is about a message.
func fits(r *pecv1.MailRule, j *judged) bool {
	switch r.GetScope() {
	case pecv1.RuleScope_RULE_SCOPE_CERTIFIED:
		if j.isOrdinary() || j.isReceipt() || !j.proven {
			return false
		}
	case pecv1.RuleScope_RULE_SCOPE_ORDINARY:
		if !j.isOrdinary() {
			return false
		}
	case pecv1.RuleScope_RULE_SCOPE_RECEIPTS:
		if !j.isReceipt() || !j.proven {
			return false
		}
	default:
		if j.isReceipt() {
			return false
		}
	}
	if len(r.GetSenders()) > 0 && !fromAny(r.GetSenders(), or(j.sender, j.from)) {
		return false
	}
	return r.GetSubject() == "" || strings.Contains(strings.ToLower(j.subject), strings.ToLower(r.GetSubject()))
}

// fromAny says whether a sender is among addresses and domains (@domain).
func fromAny(list []string, sender string) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		if domain, is := strings.CutPrefix(strings.TrimSpace(s), "@"); is {
			return strings.EqualFold(pec.Domain(sender), domain)
		}
		return key(s) == key(sender)
	})
}

// sort applies the rules of the mailbox to a message that came in: the first that fits, or else the rule for mail that is
// not certified. What could not be read is not sorted.
func (v *visit) sort(j *judged, folder string) sorted {
	if j.code != "" {
		return sorted{folder: folder}
	}
	for i, r := range v.policy.GetRules() {
		if !fits(r, j) {
			continue
		}
		out := sorted{folder: folder, notify: r.GetNotify()}
		switch r.GetAction() {
		case pecv1.RuleAction_RULE_ACTION_MOVE:
			out.folder = r.GetFolder()
		case pecv1.RuleAction_RULE_ACTION_REJECT:
			j.code, j.reason = codeRejected, fmt.Sprintf("mail that is not certified is kept away by rule %d of the mailbox", i+1)
			if r.GetDisplayName() != "" {
				j.reason += ": " + r.GetDisplayName()
			}
		case pecv1.RuleAction_RULE_ACTION_FORWARD:
			out.forward = r.GetForwardTo()
		}
		return out
	}
	return sorted{folder: v.ordinary(j, folder)}
}

// Header fields of what the platform sends to ordinary addresses, by which it knows its own mail again.
const (
	fieldNotice  = "X-Ceralacca-Notice"
	fieldForward = "X-Ceralacca-Forward"
)

// comesBack says whether a notice about a message, or sending it on, could begin a loop: it is of the platform itself, or
// mail that is not certified and that a program sent. spec: RFC3834 §2
func comesBack(j *judged) bool {
	parts := []*pec.Part{j.reading.Root}
	if original, err := j.reading.OriginalMessage(); err == nil && original != nil {
		parts = append(parts, original)
	}
	for _, p := range parts {
		for _, field := range []string{fieldNotice, fieldForward} {
			if _, ours := p.Header.Lookup(field); ours {
				return true
			}
		}
		if !j.isOrdinary() {
			continue
		}
		if v, has := p.Header.Lookup("Auto-Submitted"); has && !strings.EqualFold(strings.TrimSpace(v), "no") {
			return true
		}
		switch strings.ToLower(strings.TrimSpace(p.Header.Get("Precedence"))) {
		case "bulk", "junk":
			return true
		}
		if strings.TrimSpace(p.Header.Get("Return-Path")) == "<>" {
			return true // a bounce
		}
	}
	return false
}

// serve does for a message that was just received what its owner wants: those who want to be told are, and it is sent on. What was found on the first reading is no news.
func (v *visit) serve(ctx context.Context, tx pgx.Tx, id uuid.UUID, j *judged, ref blob.Ref, want sorted) error {
	if j.code != "" || v.box.SyncEndTime == nil || j.reading == nil || j.isReceipt() || comesBack(j) {
		return nil
	}
	sender := or(j.sender, j.from)
	if want.forward != "" && key(want.forward) != key(sender) {
		err := v.s.bus.Emit(bus.WithCorrelation(ctx, id.String()), tx, &pecv1.ForwardDue{
			Message: messageName(v.box.TenantID, v.box.ID, id), Address: want.forward, Language: v.policy.GetNotice().GetLanguage(), Content: content(ref),
			Sender: trim(sender, 320), Recipient: v.box.Address, Title: trim(j.subject, 300),
		})
		if err == nil {
			err = telemetry.Audit(telemetry.WithActor(ctx, actor), tx, telemetry.Act{Action: "message.forward", Resource: messageName(v.box.TenantID, v.box.ID, id)})
		}
		if err != nil {
			return err
		}
	}
	n := v.policy.GetNotice()
	if len(n.GetAddresses()) == 0 || !want.notify && len(n.GetSenders()) > 0 && !fromAny(n.GetSenders(), sender) || fromAny(n.GetAddresses(), sender) {
		return nil
	}
	return q(tx).OweNotice(ctx, db.OweNoticeParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, MessageID: id, Sender: trim(sender, 320),
		Subject: trim(j.subject, 300), Certified: j.proven && !j.isOrdinary(), ReceiveTime: pg.Time(v.s.now())})
}
