package pecgateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

const (
	// codeDoubted stands before what a state stands on and is not proven any more.
	codeDoubted = "RECEIPTS_NOT_PROVEN_ANY_MORE"
	// codeStruck stands before what does not count because a person struck it out.
	codeStruck = "RECEIPT_STRUCK_OUT"
	// codeVouched stands before what counts by the word of a person alone.
	codeVouched = "RECEIPTS_VOUCHED_FOR"
)

// states of a sent message, as the contract names them.
var states = map[pec.SendState]pecv1.MessageState{
	pec.SendQueued:       pecv1.MessageState_MESSAGE_STATE_PENDING,
	pec.SendSubmitted:    pecv1.MessageState_MESSAGE_STATE_SUBMITTED,
	pec.SendUnknown:      pecv1.MessageState_MESSAGE_STATE_OUTCOME_UNKNOWN,
	pec.SendRejected:     pecv1.MessageState_MESSAGE_STATE_REJECTED,
	pec.SendRefused:      pecv1.MessageState_MESSAGE_STATE_REFUSED,
	pec.SendAccepted:     pecv1.MessageState_MESSAGE_STATE_ACCEPTED,
	pec.SendDelivered:    pecv1.MessageState_MESSAGE_STATE_DELIVERED,
	pec.SendPartly:       pecv1.MessageState_MESSAGE_STATE_PARTLY_DELIVERED,
	pec.SendNotDelivered: pecv1.MessageState_MESSAGE_STATE_FAILED,
	pec.SendCancelled:    pecv1.MessageState_MESSAGE_STATE_CANCELLED,
}

// know adds a fact about a sent message. receipt is the message that proves it, nil for what we did
// ourselves. It says whether the fact is new. The caller asks advance afterwards, once for all facts.
func (s *Service) know(ctx context.Context, tx pgx.Tx, message uuid.UUID, f pec.Fact, receipt *uuid.UUID) (bool, error) {
	id, err := pg.NewID()
	if err != nil {
		return false, err
	}
	external := f.Esterni
	if external == nil {
		external = []string{}
	}
	n, err := q(tx).InsertFact(ctx, db.InsertFactParams{
		TenantID: pg.Tenant(ctx), MessageID: message, ID: id, Kind: int16(f.Kind), At: pg.Time(f.At), Recipient: f.Recipient,
		Identificativo: f.Identificativo, External: external, Cause: string(f.Cause), SecondNotice: f.Second, ReceiptID: receipt, CreateTime: pg.Time(s.now()),
	})
	return n == 1, err
}

// advance makes the state of a sent message and of its recipients what the facts add up to now, and
// tells when the state of the message changed. The row of the message is locked: advance is the only
// writer of states.
func (s *Service) advance(ctx context.Context, tx pgx.Tx, message uuid.UUID) (pec.State, error) {
	tenant := pg.Tenant(ctx)
	row, err := q(tx).LockMessage(ctx, db.LockMessageParams{TenantID: tenant, ID: message})
	if err != nil {
		return pec.State{}, err
	}
	recipients, err := q(tx).ListRecipients(ctx, db.ListRecipientsParams{TenantID: tenant, MessageID: message})
	if err != nil {
		return pec.State{}, err
	}
	rows, err := q(tx).ListFacts(ctx, db.ListFactsParams{TenantID: tenant, MessageID: message})
	if err != nil {
		return pec.State{}, err
	}
	addresses := make([]string, len(recipients))
	for i, r := range recipients {
		addresses[i] = r.Address
	}
	count := counted(rows)
	known := facts(count)
	state := pec.Derive(addresses, known, s.now())
	state.Contradictions = slices.Concat(state.Contradictions, remarks(count), doubts(count), words(count), strikes(rows))
	err = s.recordRecipients(ctx, tx, recipients, state.Recipients)
	if err != nil {
		return state, err
	}
	err = s.watch(ctx, tx, row, state, known)
	if err != nil {
		return state, err
	}
	return state, s.recordState(ctx, tx, row, state, surelyNotSent(state, known))
}

// surelyNotSent says that nobody has the message and nobody will get it. A provider that did not deliver in
// time may do so yet, and a message that was given up while its outcome was unknown may be on its way.
func surelyNotSent(s pec.State, known []pec.Fact) bool {
	unknown := slices.ContainsFunc(known, func(f pec.Fact) bool { return f.Kind == pec.FactUnknown })
	switch s.State {
	case pec.SendRefused:
		return true
	case pec.SendRejected, pec.SendCancelled:
		return !unknown
	case pec.SendNotDelivered:
		return !slices.ContainsFunc(s.Recipients, func(r pec.Recipient) bool { return r.State != pec.RecipientFailed })
	}
	return false
}

// decidedAt is the latest moment that a receipt for a recipient certifies; nil when none does.
func decidedAt(s pec.State) *time.Time {
	var at *time.Time
	for i := range s.Recipients {
		if t := s.Recipients[i].At; !t.IsZero() && (at == nil || t.After(*at)) {
			at = &t
		}
	}
	return at
}

// counted are the facts but for those whose receipt a person struck out, or vouched for and it is not proven by that any more.
func counted(rows []db.Fact) []db.Fact {
	return slices.DeleteFunc(slices.Clone(rows), func(f db.Fact) bool { return f.StruckTime != nil || f.Vouched != "" && f.Doubt != "" })
}

func facts(rows []db.Fact) []pec.Fact {
	out := make([]pec.Fact, len(rows))
	for i, r := range rows {
		out[i] = pec.Fact{Kind: pec.FactKind(r.Kind), At: r.At, Recipient: r.Recipient, Identificativo: r.Identificativo,
			Esterni: r.External, Cause: pec.Cause(r.Cause), Second: r.SecondNotice}
	}
	return out
}

// explain puts the providers' own words into what is shown of a message.
func explain(rows []db.Fact, recipients []*pecv1.RecipientOutcome) (refusal string) {
	words := map[string]string{}
	for _, r := range rows {
		switch pec.FactKind(r.Kind) {
		case pec.FactRefused:
			refusal = or(refusal, r.Remark)
		case pec.FactFailed:
			words[key(r.Recipient)] = or(words[key(r.Recipient)], r.Remark)
		}
	}
	for _, o := range recipients {
		if o.GetState() == string(pec.RecipientFailed) {
			o.Detail = words[key(o.GetAddress())]
		}
	}
	return refusal
}

// remarks are what receipts show of the content that was delivered, each once and in order.
func remarks(rows []db.Fact) []string {
	var out []string
	for _, r := range rows {
		if r.Remark != "" && pec.FactKind(r.Kind) == pec.FactDelivered {
			out = append(out, r.Remark)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// said is what receipts of each kind say.
var said = map[pec.FactKind]string{
	pec.FactAccepted: "accepted", pec.FactRefused: "refused", pec.FactNotice: "late to", pec.FactDelivered: "delivered to", pec.FactFailed: "not delivered to",
}

// doubtsShown is how many receipts are named for which there is one reason.
const doubtsShown = 10

// doubts are the receipts that the state stands on although they are not proven any more, by reason.
func doubts(rows []db.Fact) []string {
	return together(rows, codeDoubted, "The state stands until a person decides", func(r db.Fact) string { return r.Doubt })
}

// words are the receipts that the state stands on by a person's word, by word.
func words(rows []db.Fact) []string {
	return together(rows, codeVouched, "They came after the certificate of their signer had ended, and count by a person's word", func(r db.Fact) string { return r.Vouched })
}

// together names the receipts for which there is a reason, by reason.
func together(rows []db.Fact, code, text string, reason func(db.Fact) string) []string {
	by := map[string][]string{}
	for _, r := range rows {
		if why := reason(r); why != "" {
			by[why] = append(by[why], strings.TrimSpace(said[pec.FactKind(r.Kind)]+" "+r.Recipient))
		}
	}
	var out []string
	for why, what := range by {
		slices.Sort(what)
		count := len(what)
		if count > doubtsShown {
			what = append(what[:doubtsShown:doubtsShown], "...")
		}
		out = append(out, fmt.Sprintf("%s: %d (%s). %s: %s", code, count, strings.Join(what, "; "), text, why))
	}
	slices.Sort(out)
	return out
}

// strikes are the receipts that do not count because a person said so, each with the reason.
func strikes(rows []db.Fact) []string {
	var out []string
	for _, r := range rows {
		if r.StruckTime != nil {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s: %s. Struck out by %s: %s", codeStruck, strings.TrimSpace(said[pec.FactKind(r.Kind)]+" "+r.Recipient), r.StruckBy, r.StruckReason)))
		}
	}
	slices.Sort(out)
	return out
}

// recordRecipients writes the outcomes that changed; the statements travel together.
func (s *Service) recordRecipients(ctx context.Context, tx pgx.Tx, rows []db.Recipient, outcomes []pec.Recipient) error {
	byAddress := make(map[string]pec.Recipient, len(outcomes))
	for _, o := range outcomes {
		byAddress[key(o.Address)] = o
	}
	var changed []db.UpdateRecipientsParams
	for _, r := range rows {
		o, ok := byAddress[key(r.Address)]
		if !ok {
			continue
		}
		var at *time.Time
		if !o.At.IsZero() {
			t := pg.Time(o.At)
			at = &t
		}
		same := r.State == string(o.State) && r.Final == o.Final && r.Late == o.Late && r.Cause == string(o.Cause) &&
			(at == nil) == (r.At == nil) && (at == nil || at.Equal(*r.At))
		if same {
			continue
		}
		changed = append(changed, db.UpdateRecipientsParams{
			TenantID: r.TenantID, MessageID: r.MessageID, Position: r.Position, State: string(o.State), Final: o.Final, Late: o.Late, At: at,
			Cause: string(o.Cause),
		})
	}
	var failed error
	if len(changed) > 0 {
		q(tx).UpdateRecipients(ctx, changed).Exec(func(_ int, err error) { failed = errors.Join(failed, err) })
	}
	return failed
}

func (s *Service) recordState(ctx context.Context, tx pgx.Tx, row db.Message, state pec.State, surelyNotSent bool) error {
	next := states[state.State]
	identificativo := or(state.Identificativo, row.Identificativo)
	contradictions := state.Contradictions
	if contradictions == nil {
		contradictions = []string{}
	}
	if int16(next) == row.State && identificativo == row.Identificativo && slices.Equal(contradictions, row.Contradictions) {
		return nil
	}
	err := q(tx).AdvanceMessage(ctx, db.AdvanceMessageParams{
		TenantID: row.TenantID, ID: row.ID, State: int16(next), Identificativo: identificativo, Contradictions: contradictions,
	})
	if err == nil && identificativo != row.Identificativo {
		err = q(tx).LinkDeliveryReports(ctx, db.LinkDeliveryReportsParams{TenantID: row.TenantID, MailboxID: row.MailboxID, AboutID: &row.ID, Identificativo: identificativo})
	}
	if err != nil || int16(next) == row.State {
		return err
	}
	request, err := requestOf(ctx, tx, row)
	if err != nil {
		return err
	}
	return s.bus.Emit(bus.WithCorrelation(ctx, row.ID.String()), tx, &pecv1.DeliveryStateChanged{
		Message: messageName(row.TenantID, row.MailboxID, row.ID), State: next.String(), RequestId: request, SurelyNotSent: surelyNotSent,
		CertifiedTime: stamp(decidedAt(state)),
	})
}
