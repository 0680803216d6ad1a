package pecgateway

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// What begins the words about a message of ordinary mail that names a message of ours.
const (
	codeReport  = "DELIVERY_REPORT" // an ordinary delivery report
	codeWrapped = "WRAPPED_MAIL"    // an anomaly envelope around certified mail that came back, or that was passed on
)

// readDeliveryReport notes an ordinary delivery report (RFC 3464), by itself or in an anomaly envelope. Anybody can write
// one: it is put beside the message that it names, and no fact follows from it.
func (j *judged) readDeliveryReport() error {
	if j.tipo.Certified() && j.tipo != pec.BustaAnomalia {
		return nil
	}
	d, err := j.reading.ReadDSN()
	if err == nil && d == nil && j.tipo == pec.BustaAnomalia {
		return j.readWrapped()
	}
	if err != nil || d == nil || d.OriginalID == "" {
		return err
	}
	j.told, j.ref = d, trim(pec.TrimID(d.OriginalID), 500)
	for _, r := range d.Recipients {
		if len(j.doubts) < 50 {
			j.doubts = append(j.doubts, trim(fmt.Sprintf("%s: %s, %s (%s) %s; a report of ordinary mail, which proves nothing", codeReport, r.Address, r.Action,
				strings.TrimSpace(r.Status), r.Diagnostic), 500))
		}
	}
	if len(d.Recipients) == 0 {
		j.doubts = append(j.doubts, codeReport+": it names no recipient")
	}
	return nil
}

// readWrapped notes what certified mail in an anomaly envelope is about. The envelope says that its provider could not prove what
// is in it; it is put beside the message that it names, and no fact follows from it.
func (j *judged) readWrapped() error {
	inner, err := j.reading.OriginalMessage()
	if err != nil || inner == nil {
		return err
	}
	claim := inner.Header.Get(pec.HeaderRicevuta) + inner.Header.Get(pec.HeaderTrasporto)
	id := trim(or(inner.Header.MessageID(pec.HeaderRiferimento), inner.Header.MessageID("Message-ID")), 500)
	if claim == "" || id == "" {
		return nil
	}
	j.told, j.ref = &pec.DSN{OriginalID: id}, id
	j.doubts = append(j.doubts, trim(fmt.Sprintf("%s: it holds what says that it is %s, which proves nothing here", codeWrapped, strings.TrimSpace(claim)), 500))
	return nil
}

// reportedOn finds the message of ours that an ordinary delivery report, or what an anomaly envelope holds, names: by our Message-ID, or by the provider's
// identifier, which the envelope carries. nil: none of ours, or its identifier is not known yet.
func (s *Service) reportedOn(ctx context.Context, tx pgx.Tx, box db.Mailbox, j *judged) (*correlated, error) {
	row, err := q(tx).SentOf(ctx, db.SentOfParams{TenantID: box.TenantID, MailboxID: box.ID, Msgid: j.ref, Identificativo: j.ref})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &correlated{sent: row, hearsay: true}, nil
}
