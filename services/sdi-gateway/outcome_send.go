package sdigateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// sendOutcomeArgs is the promise to send one outcome.
type sendOutcomeArgs struct {
	Outcome uuid.UUID `json:"outcome"`
}

// Kind names the job in the database.
func (sendOutcomeArgs) Kind() string { return "sdi_send_outcome" }

// Codes of outcomes that were not taken, and of what is remarkable about one that was.
const (
	codeOutcomeExpired = "OUTCOME_WINDOW_EXPIRED"
	codeOutcomeRefused = "ES00"
	codeOutcomeRepeat  = "OUTCOME_REPEAT_OF_OURS"
)

// verdict is what a call told about an outcome.
type verdict struct {
	state   string
	code    string
	message string
	answer  []byte // the SE, as received
}

// sendOutcome sends one outcome as a file is transmitted: the attempt is counted first, an answer ends it,
// and a call whose end nobody knows is repeated only after resend_after, under the same name with the same
// bytes. SdI refuses a second outcome (EN01), so a repeat that is refused so tells that the first one counts.
func (s *Service) sendOutcome(ctx context.Context, job *river.Job[sendOutcomeArgs]) error {
	byPost, err := s.postOutcome(ctx, job.Args.Outcome)
	if err != nil || byPost {
		return err
	}
	o, wait, err := s.beginOutcome(ctx, job.Args.Outcome)
	if err != nil || o == nil && wait == 0 {
		return err
	}
	if o == nil {
		return river.JobSnooze(wait)
	}
	answer, err := s.callOutcome(ctx, o)
	if err != nil {
		recordErr := s.recordOutcomeFailure(ctx, o, err)
		if recordErr != nil {
			return errors.Join(err, recordErr)
		}
		if fault.Permanent(err) {
			return err
		}
		return river.JobSnooze(s.patience(err))
	}
	return s.settleOutcome(ctx, o, judgeOutcome(o, answer))
}

// beginOutcome counts an attempt. It gives no outcome when there is nothing to send, and a pause when a call
// was begun and not recorded: its process was killed in the middle, so its end is unknown.
func (s *Service) beginOutcome(ctx context.Context, id uuid.UUID) (begun *db.InboundOutcome, wait time.Duration, err error) {
	lease := s.cfg.CallTimeout + s.cfg.ResendAfter
	err = s.db.Tx(ctx, pg.Tenant(ctx), func(ctx context.Context, tx pgx.Tx) error {
		file, o, err := lockOutcome(ctx, tx, id)
		if err != nil || o.State == outcomeTaken || o.State == outcomeRefused {
			return err
		}
		now := pg.Time(s.now())
		if o.AttemptAt != nil {
			wait = o.AttemptAt.Add(lease).Sub(now)
			if wait > 0 {
				return nil
			}
			o.Unknown++
			wait = 0
		}
		if expired(file, now) {
			v := verdict{state: outcomeRefused, code: codeOutcomeExpired, message: "the term was over before SdI took the outcome"}
			return s.writeVerdict(ctx, tx, file, o, v)
		}
		o.Attempts++
		o.AttemptAt = &now
		begun = o
		return storeOutcome(ctx, tx, o)
	})
	return begun, wait, err
}

// lockOutcome locks an outcome behind its file: everybody locks in this order.
func lockOutcome(ctx context.Context, tx pgx.Tx, id uuid.UUID) (*db.InboundFile, *db.InboundOutcome, error) {
	fileID, err := db.New(tx).OutcomeFile(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	file, err := db.New(tx).LockInboundFile(ctx, fileID)
	if err != nil {
		return nil, nil, err
	}
	o, err := db.New(tx).LockOutcome(ctx, id)
	return &file, &o, err
}

func storeOutcome(ctx context.Context, tx pgx.Tx, o *db.InboundOutcome) error {
	return db.New(tx).StoreOutcome(ctx, db.StoreOutcomeParams{
		ID: o.ID, State: o.State, AnswerUri: o.AnswerUri, Code: o.Code, Message: o.Message, Attempts: o.Attempts, Unknown: o.Unknown,
		AttemptAt: o.AttemptAt, SettledAt: o.SettledAt,
	})
}

// callOutcome calls NotificaEsito once. Its faults are those of send.
func (s *Service) callOutcome(ctx context.Context, o *db.InboundOutcome) (answer sdi.RispostaSdINotificaEsito, err error) {
	err = s.outcomes.Do(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
		defer cancel()
		var err error
		answer, err = s.notify.NotificaEsito(ctx, sdi.FileSdI{IdentificativoSdI: o.SdiID, NomeFile: o.FileName, File: o.Content})
		if err != nil {
			return callFault(err)
		}
		if answer.Esito == sdi.ES02 {
			// The texts do not say whether the outcome counts: the name is kept, and it is asked again later.
			return fault.Unavailable(codeUnknownOutcome, "SdI says that the service is unavailable (ES02)")
		}
		return nil
	})
	return answer, err
}

// judgeOutcome says what an answer means for an outcome.
// spec: RicezioneTypes-1.0 esitoNotifica_Type; MessaggiTypes-1.1 ScartoEsitoCommittente
func judgeOutcome(o *db.InboundOutcome, answer sdi.RispostaSdINotificaEsito) verdict {
	if answer.Esito == sdi.ES01 {
		return verdict{state: outcomeTaken}
	}
	v := verdict{state: outcomeRefused, code: codeOutcomeRefused, message: "SdI did not accept the outcome (ES00) and did not say why"}
	if answer.ScartoEsito == nil {
		return v
	}
	v.answer = answer.ScartoEsito.File
	message, err := sdi.ParseMessage(answer.ScartoEsito.NomeFile, answer.ScartoEsito.File)
	if err != nil {
		v.message = "SdI did not accept the outcome (ES00); its reasons cannot be read: " + sentence(err)
		return v
	}
	se, ok := message.Contenuto.(*sdi.ScartoEsitoCommittente)
	if !ok {
		v.message = fmt.Sprintf("SdI did not accept the outcome (ES00) and enclosed a message of type %s", message.Type())
		return v
	}
	said := refusalVerdict(o, se)
	said.answer = v.answer
	return said
}

// recordOutcomeFailure keeps the reason where people see it. A call that surely left nothing at SdI does not
// count as one that may have arrived.
func (s *Service) recordOutcomeFailure(ctx context.Context, o *db.InboundOutcome, cause error) error {
	f := fault.Of(cause)
	return s.db.Tx(ctx, o.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		_, now, err := lockOutcome(ctx, tx, o.ID)
		if err != nil || now.State == outcomeTaken || now.State == outcomeRefused {
			return err
		}
		now.Code, now.Message, now.AttemptAt = f.Code, plainText(f.Message, 500), nil
		now.Unknown = o.Unknown
		if f.Code == codeUnknownOutcome {
			now.State = outcomeUnknown
			now.Unknown++
		}
		return storeOutcome(ctx, tx, now)
	})
}

// settleOutcome writes the verdict down and tells the tenant.
func (s *Service) settleOutcome(ctx context.Context, o *db.InboundOutcome, v verdict) error {
	uri := ""
	if v.answer != nil {
		ref, err := s.blobs.Put(ctx, o.TenantID, v.answer)
		if err != nil {
			return err
		}
		uri = ref.URI()
	}
	return s.db.Tx(ctx, o.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		file, row, err := lockOutcome(ctx, tx, o.ID)
		if err != nil || row.State == outcomeTaken || row.State == outcomeRefused {
			return err
		}
		row.AnswerUri, row.Unknown = uri, o.Unknown
		return s.writeVerdict(ctx, tx, file, row, v)
	})
}

// writeVerdict ends an outcome, moves its file, and emits the fact, in the caller's transaction.
func (s *Service) writeVerdict(ctx context.Context, tx pgx.Tx, file *db.InboundFile, o *db.InboundOutcome, v verdict) error {
	now := pg.Time(s.now())
	o.State, o.Code, o.Message, o.AttemptAt, o.SettledAt = v.state, v.code, v.message, nil, &now
	err := storeOutcome(ctx, tx, o)
	if err == nil {
		err = s.refreshState(ctx, tx, file)
	}
	if err != nil {
		return err
	}
	return s.bus.Emit(bus.WithCorrelation(ctx, file.ID.String()), tx, &sdiv1.InboundOutcomeSettled{
		InboundInvoice: inboundName(file), SdiId: file.SdiID, Position: o.Position, Outcome: o.Outcome, Taken: v.state == outcomeTaken,
		Code: v.code, Message: v.message,
	})
}
