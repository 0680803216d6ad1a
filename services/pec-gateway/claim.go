package pecgateway

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// What may be wrong with a message that says that it is certified mail. The codes are permanent.
const (
	codeFalseClaim    = "FALSE_CLAIM"    // no listed provider signed it as it stands
	codeDoubtfulClaim = "DOUBTFUL_CLAIM" // one did, and it does not agree with itself, or its certificate had ended when it came
	codeUnknownType   = "UNKNOWN_TYPE"   // one did, and its type is none of the rules
)

// falseClaim says what is wrong with a message that says that it is certified mail and is not proven; "" when nothing is, or when
// a person is asked already: for the certificate, which may be that of thousands.
func (j *judged) falseClaim() string {
	if j.report == nil || j.proven || j.trustless || j.report.Status == pec.StatusUnlisted {
		return ""
	}
	claim, d := j.reading.Claim.Tipo, j.reading.Daticert
	switch {
	case !claim.Certified() && claim != pec.TipoIgnoto:
		return ""
	case j.report.Status != pec.StatusValid && j.report.Status != pec.StatusEnded:
		return codeFalseClaim
	case claim == pec.TipoIgnoto || d != nil && d.Kind() == pec.TipoIgnoto:
		return codeUnknownType
	}
	return codeDoubtfulClaim
}

// tellClaim tells somebody of a message that may be forged, with the message of ours that it names. What is found when a mailbox is
// read for the first time is of long ago.
func (v *visit) tellClaim(ctx context.Context, tx pgx.Tx, id uuid.UUID, j *judged) error {
	code := j.falseClaim()
	if code == "" || v.box.SyncEndTime == nil {
		return nil
	}
	ev := &pecv1.ClaimNotProven{Message: messageName(v.box.TenantID, v.box.ID, id), Code: code, Claim: trim(j.reading.Claim.Value, 100), Reason: or(j.whyNot(), "it is not proven")}
	if j.ref != "" || j.ident != "" {
		sent, err := q(tx).SentOf(ctx, db.SentOfParams{TenantID: pg.Tenant(ctx), MailboxID: v.box.ID, Msgid: j.ref, Identificativo: j.ident})
		switch {
		case err == nil:
			ev.About = messageName(v.box.TenantID, v.box.ID, sent.ID)
		case !errors.Is(err, pgx.ErrNoRows):
			return err
		}
	}
	return v.s.bus.Emit(bus.WithCorrelation(ctx, id.String()), tx, ev)
}
