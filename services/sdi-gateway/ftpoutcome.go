package sdigateway

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// settleArgs is the promise to write down that SdI has the documents of a support.
type settleArgs struct {
	Support uuid.UUID `json:"support"`
	// Received is when SdI says that it received the support.
	Received time.Time `json:"received"`
}

// Kind names the job in the database.
func (settleArgs) Kind() string { return "sdi_settle_support" }

// settledTogether bounds one transaction of that.
const settledTogether = 500

// readOutcome applies an EO. ET01: SdI has every document. ET02: it took none of them.
// spec: SDIFTP-4.3 §3.2
func (s *Service) readOutcome(ctx context.Context, _ uuid.UUID, name sdiftp.Name, raw []byte) (string, error) {
	e, err := sdiftp.ParseEsito(raw)
	if err != nil {
		return "", fault.Invalid("SDIFTP_OUTCOME", "outcome %s cannot be read: %v", name, err)
	}
	for _, w := range e.Avvertenze {
		s.log.WarnContext(ctx, "an outcome is odd", "name", name.String(), "what", w)
	}
	about, err := sdiftp.ParseName(e.Supporto)
	if err != nil || about != name.About() {
		return string(e.Esito), fault.Invalid("SDIFTP_OUTCOME", "outcome %s speaks of support %s, not of that of its name", name, e.Supporto)
	}
	if e.Esito == sdiftp.ET01 {
		return string(e.Esito), s.acceptSupport(ctx, about, e.Ricezione)
	}
	return string(e.Esito), s.refuseSupport(ctx, about, string(e.Esito), "SdI refused the support as a whole (ET02): counts or form are not as it wants them")
}

// readRefusal applies an ER: SdI could not open the support, and has nothing of it.
func (s *Service) readRefusal(ctx context.Context, _ uuid.UUID, name sdiftp.Name, raw []byte) (string, error) {
	e, err := sdiftp.ParseScarto(raw)
	if err != nil {
		s.log.WarnContext(ctx, "a refusal cannot be read; its name says enough", "name", name.String(), "error", err)
	}
	why := map[int]string{
		sdiftp.ScartoCifratura: "it could not be decrypted: check ftp.sdi_cert_file",
		sdiftp.ScartoFirma:     "its signature does not hold: check ftp.sign_cert_file",
	}[e.Codice]
	if why == "" {
		why = "it could not be opened: check ftp.sdi_cert_file and ftp.sign_cert_file"
	}
	return "ER", s.refuseSupport(ctx, name.About(), "ER", fmt.Sprintf("SdI refused the support (ER): %s", why))
}

// acceptSupport notes ET01 and promises the rest. An outcome that contradicts an earlier one is kept and changes
// nothing.
func (s *Service) acceptSupport(ctx context.Context, name sdiftp.Name, received time.Time) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		row, err := db.New(tx).FindSupport(ctx, name.String())
		if err != nil {
			return noSuchSupport(err, name.String())
		}
		switch row.State {
		case "ACCEPTED":
			return nil
		case "REFUSED", "WITHDRAWN", "GATHERED":
			return contradicted(name, row.State, "ET01")
		}
		now := pg.Time(s.now())
		err = db.New(tx).SettleSupport(ctx, db.SettleSupportParams{ID: row.ID, State: "ACCEPTED", Outcome: "ET01", Now: &now})
		if err != nil {
			return err
		}
		return s.jobs.InsertTx(ctx, tx, settleArgs{Support: row.ID, Received: received}, nil)
	})
}

// refuseSupport frees the documents of a support of which SdI took nothing: they keep their names and go again,
// in another support or by another channel.
func (s *Service) refuseSupport(ctx context.Context, name sdiftp.Name, outcome, why string) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		row, err := q.FindSupport(ctx, name.String())
		if err != nil {
			return noSuchSupport(err, name.String())
		}
		switch row.State {
		case "REFUSED":
			return nil
		case "ACCEPTED", "WITHDRAWN", "GATHERED":
			return contradicted(name, row.State, outcome)
		}
		now := pg.Time(s.now())
		err = q.SettleSupport(ctx, db.SettleSupportParams{ID: row.ID, State: "REFUSED", Outcome: outcome, Problem: why, Now: &now})
		if err != nil {
			return err
		}
		n, err := freeSupport(ctx, q, row.ID, codeSupportRefused+": "+why, now)
		if err == nil {
			s.log.ErrorContext(ctx, "SdI refused a support", "name", name.String(), "outcome", outcome, "documents_to_send_again", n, "why", why)
		}
		return err
	})
}

func contradicted(name sdiftp.Name, state, outcome string) error {
	return fault.Precondition("SDIFTP_CONTRADICTION", "support %s is %s and SdI says %s: a person decides", name, state, outcome)
}

// settleSupport writes down, some at a time, that SdI has the documents of an accepted support. Their
// IdentificativoSdI comes with their first message.
func (s *Service) settleSupport(ctx context.Context, job *river.Job[settleArgs]) error {
	for {
		n := 0
		err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			rows, err := db.New(tx).SettledFiles(ctx, db.SettledFilesParams{SupportID: job.Args.Support, N: settledTogether})
			if err != nil || len(rows) == 0 {
				return err
			}
			n = len(rows)
			sent := make(map[uuid.UUID]handover, n)
			for _, t := range rows {
				sent[t.ID] = handover{at: job.Args.Received}
			}
			return s.recordSent(ctx, tx, sent, func(ctx context.Context, t *db.LockTransmissionsRow) context.Context {
				return pg.WithTenant(story(ctx, t.TenantID, t.Invoice, "", t.Traceparent), t.TenantID)
			})
		})
		if err != nil {
			return err
		}
		if n < settledTogether {
			return s.settleAnswers(ctx, job.Args.Support)
		}
	}
}

// reportDays is how far back a daily report goes.
const reportDays = 5 * 24 * time.Hour
