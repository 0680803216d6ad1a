package sdigateway

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// answersTogether bounds the outcomes of one support.
const answersTogether = 1000

// wayOfAnswer says whether an outcome can go the way on which its file came: SdI expects it there.
func (s *Service) wayOfAnswer(file *db.InboundFile) error {
	switch file.Channel {
	case channelCoop:
		if s.notify == nil {
			return fault.Precondition("OUTCOME_NOT_CONFIGURED", "no outcome can be sent: set sdi-gateway.inbound.notify_endpoint to the address of SdI's NotificaEsito")
		}
	case channelFTP:
		if s.ftp == nil {
			return fault.Precondition("OUTCOME_NOT_CONFIGURED", "the file came by SDIFTP and its answer goes the same way: set sdi-gateway.ftp.listen again")
		}
	case channelPEC:
		if !s.cfg.PEC.Enabled {
			return fault.Precondition("OUTCOME_NOT_CONFIGURED", "the file came by certified mail and its answer goes the same way: set sdi-gateway.pec.enabled again")
		}
	default:
		return fault.Precondition("OUTCOME_NOT_CONFIGURED", "the file came by the channel %s, by which no outcome can be sent", file.Channel)
	}
	return nil
}

// gatherAnswers makes a support of the outcomes that wait, as gather does of invoices. An outcome whose term is
// over is not sent.
func (s *Service) gatherAnswers(ctx context.Context, most time.Duration) (made bool, err error) {
	now := pg.Time(s.now())
	var waiting []db.WaitingAnswersRow
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		waiting, err = db.New(tx).WaitingAnswers(ctx, answersTogether)
		return err
	})
	if err != nil || len(waiting) == 0 || now.Sub(waiting[0].CreatedAt) < most {
		return false, err
	}
	facts, err := s.channelFacts(ctx)
	if err != nil || ftpHealth(facts, now, s.cfg.FTP.SilentAfter, s.cfg.FTP.RetryRefused) != "" {
		return false, err
	}
	var ids []uuid.UUID
	for _, o := range waiting {
		if !expired(&db.InboundFile{AnswerBy: o.AnswerBy, ExpiredAt: o.ExpiredAt}, now) {
			ids = append(ids, o.ID)
			continue
		}
		err = s.settleAnswer(ctx, o.TenantID, o.ID, verdict{state: outcomeRefused, code: codeOutcomeExpired, message: "the term was over before SdI took the outcome"})
		if err != nil {
			return false, err
		}
	}
	if len(ids) == 0 {
		return false, nil
	}
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		made, err = s.bindAnswers(ctx, tx, ids)
		return err
	})
	return made && err == nil, err
}

func (s *Service) bindAnswers(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) (bool, error) {
	q := db.New(tx)
	id, err := pg.NewID()
	if err != nil {
		return false, err
	}
	bound, err := q.BindAnswers(ctx, db.BindAnswersParams{SupportID: &id, Ids: ids})
	if err != nil || len(bound) == 0 {
		return false, err // another replica was quicker
	}
	now := pg.Time(s.now())
	name, err := s.supportName(ctx, q, now)
	if err != nil {
		return false, err
	}
	err = q.InsertSupport(ctx, db.InsertSupportParams{ID: id, Node: name.Node, Name: name.String(), Documents: int32(len(bound)), Now: now}) //nolint:gosec // at most 1,000
	if err != nil {
		return false, err
	}
	p := db.InsertSupportOutcomesParams{SupportID: id}
	for _, o := range bound {
		p.OutcomeIds, p.TenantIds = append(p.OutcomeIds, o.ID), append(p.TenantIds, o.TenantID)
	}
	err = q.InsertSupportOutcomes(ctx, p)
	if err != nil {
		return false, err
	}
	return true, s.jobs.InsertTx(ctx, tx, buildArgs{Support: id}, nil)
}

// answersIn reads the outcomes that a support carries: they are written in their rows.
func (s *Service) answersIn(ctx context.Context, support uuid.UUID) (docs []sdiftp.Documento, err error) {
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).SupportAnswers(ctx, support)
		for _, o := range rows {
			docs = append(docs, sdiftp.Documento{Name: o.FileName, Data: o.Content})
		}
		return err
	})
	return docs, err
}

// settleAnswers notes that SdI has the outcomes of an accepted support. It says no more of one unless it refuses
// it, with an SE.
func (s *Service) settleAnswers(ctx context.Context, support uuid.UUID) error {
	var rows []db.SupportAnswersRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		rows, err = db.New(tx).SupportAnswers(ctx, support)
		return err
	})
	if err != nil {
		return err
	}
	for _, o := range rows {
		if o.State != outcomePending {
			continue
		}
		err = s.settleAnswer(ctx, o.TenantID, o.ID, verdict{state: outcomeTaken, message: "SdI accepted the support that carries it (ET01), and would refuse it with an SE"})
		if err != nil {
			return err
		}
	}
	return nil
}

// settleAnswer ends an outcome that is still on its way.
func (s *Service) settleAnswer(ctx context.Context, tenant string, id uuid.UUID, v verdict) error {
	return s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		file, o, err := lockOutcome(ctx, tx, id)
		if err != nil || o.State != outcomePending {
			return err
		}
		return s.writeVerdict(ctx, tx, file, o, v)
	})
}

// refusalVerdict is what an SE means for an outcome, whatever the channel by which it came.
// spec: MessaggiTypes-1.1 ScartoEsitoCommittente
func refusalVerdict(o *db.InboundOutcome, se *sdi.ScartoEsitoCommittente) verdict {
	v := verdict{state: outcomeRefused, code: plainText(string(se.Scarto), 10)}
	switch {
	case se.Scarto == sdi.EN01 && o.Unknown > 0:
		return verdict{state: outcomeTaken, code: codeOutcomeRepeat,
			message: "the first call ended without an answer; SdI refused the repeat (EN01) because it has the outcome"}
	case se.Scarto == sdi.EN01:
		v.message = "SdI says that no outcome is admissible (EN01): the term is over, or the invoice has one already"
	case se.Scarto == sdi.EN00:
		v.message = "SdI says that the outcome does not conform to the format (EN00)"
	default:
		v.message = "SdI did not accept the outcome"
	}
	if se.Note != "" {
		v.message += ": " + plainText(se.Note, 200)
	}
	return v
}
