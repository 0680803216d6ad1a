package sdigateway

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// causes are the words in which an outcome states why the invoice is refused. The list is closed.
// spec: DM 132/2020, art. 2
var causes = map[sdiv1.RefusalCause]string{
	sdiv1.RefusalCause_REFUSAL_CAUSE_NOT_OUR_OPERATION: "Operazione non posta in essere in favore del destinatario (DM 132/2020, art. 2, lett. a)",
	sdiv1.RefusalCause_REFUSAL_CAUSE_CIG_CUP:           "CIG o CUP omesso o errato (DM 132/2020, art. 2, lett. b)",
	sdiv1.RefusalCause_REFUSAL_CAUSE_MEDICAL_DEVICE:    "Codice di repertorio del dispositivo medico omesso o errato (DM 132/2020, art. 2, lett. c)",
	sdiv1.RefusalCause_REFUSAL_CAUSE_MEDICINE:          "Codice AIC o quantitativo del farmaco omesso o errato (DM 132/2020, art. 2, lett. d)",
	sdiv1.RefusalCause_REFUSAL_CAUSE_COMMITMENT_ACT:    "Determinazione di impegno di spesa omessa o errata (DM 132/2020, art. 2, lett. e)",
}

// descriptionLimit is how long Descrizione may be. spec: MessaggiTypes-1.1 Descrizione
const descriptionLimit = 255

// maxOutcomes bounds the outcomes of one file: the progressive of their names has three digits.
const maxOutcomes = 999

// SendOutcome writes a public body's answer down and promises to send it. It is refused here, before
// anything is sent, when the term is over, when an outcome stands, or when the file is no public body's.
func (s *inbound) SendOutcome(ctx context.Context, req *sdiv1.SendOutcomeRequest) (*sdiv1.InboundInvoice, error) {
	words, err := outcomeWords(req)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(req.GetName(), "/")
	id, err := uuid.Parse(parts[5])
	if err != nil {
		return nil, notFound(req.GetName())
	}
	resp := &sdiv1.InboundInvoice{}
	err = s.db.Tx(ctx, parts[1], func(ctx context.Context, tx pgx.Tx) error {
		row, err := db.New(tx).LockInboundFile(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && row.CompanyID != parts[3] {
			return notFound(req.GetName())
		}
		if err != nil {
			return err
		}
		return rpc.Once(ctx, tx, sdiv1.InboundService_SendOutcome_FullMethodName, req.GetRequestId(), req, resp, func() error {
			err := s.promiseOutcome(bus.WithCorrelation(ctx, row.ID.String()), tx, &row, req, words)
			if err != nil {
				return err
			}
			out, err := presentOne(ctx, tx, &row)
			if err != nil {
				return err
			}
			resp.Reset()
			proto.Merge(resp, out)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// outcomeWords checks the causes and makes the text of the outcome.
func outcomeWords(req *sdiv1.SendOutcomeRequest) (string, error) {
	if req.GetKind() != sdiv1.InboundOutcomeKind_INBOUND_OUTCOME_KIND_REFUSED {
		if req.GetCause() != sdiv1.RefusalCause_REFUSAL_CAUSE_UNSPECIFIED {
			return "", fault.Invalid("OUTCOME_CAUSE_UNEXPECTED", "cause: an acceptance has none").
				WithField("cause", "OUTCOME_CAUSE_UNEXPECTED", "leave it out, or refuse the invoice")
		}
		return plainText(req.GetDescription(), descriptionLimit), nil
	}
	text, ok := causes[req.GetCause()]
	if !ok {
		return "", fault.Invalid("OUTCOME_CAUSE_REQUIRED", "cause: a refusal needs one of the five causes of DM 132/2020: NOT_OUR_OPERATION, CIG_CUP, MEDICAL_DEVICE, MEDICINE, COMMITMENT_ACT").
			WithField("cause", "OUTCOME_CAUSE_REQUIRED", "is not set")
	}
	if req.GetDescription() != "" {
		text += ": " + plainText(req.GetDescription(), descriptionLimit)
	}
	if n := utf8.RuneCountInString(text); n > descriptionLimit {
		return "", fault.Invalid("OUTCOME_DESCRIPTION_TOO_LONG", "description: with the text of the cause it has %d characters, SdI takes %d", n, descriptionLimit).
			WithField("description", "OUTCOME_DESCRIPTION_TOO_LONG", "shorten it")
	}
	return text, nil
}

// promiseOutcome writes the message and the job that sends it, in one transaction. The message keeps its
// name and its bytes on every repeat.
func (s *inbound) promiseOutcome(ctx context.Context, tx pgx.Tx, row *db.InboundFile, req *sdiv1.SendOutcomeRequest, words string) error {
	q := db.New(tx)
	given, err := q.OutcomesOfFile(ctx, row.ID)
	if err != nil {
		return err
	}
	bodies, err := q.ListInboundBodies(ctx, []uuid.UUID{row.ID})
	if err != nil {
		return err
	}
	err = s.mayAnswer(row, req.GetPosition(), len(bodies), given)
	if err == nil {
		err = s.wayOfAnswer(row)
	}
	if err != nil {
		return err
	}
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	ec := &sdi.NotificaEsitoCommittente{
		Intestazione: sdi.Intestazione{IdentificativoSdI: row.SdiID}, Esito: sdi.EC01, Descrizione: words,
		MessageIDCommittente: outcomeMessageID(id),
	}
	if req.GetKind() == sdiv1.InboundOutcomeKind_INBOUND_OUTCOME_KIND_REFUSED {
		ec.Esito = sdi.EC02
	}
	if n := req.GetPosition(); n > 0 {
		b := bodies[n-1]
		ec.RiferimentoFattura = &sdi.RiferimentoFattura{NumeroFattura: b.Number, AnnoFattura: b.Date[:min(4, len(b.Date))]}
		if len(bodies) > 1 {
			ec.RiferimentoFattura.PosizioneFattura = int(n)
		}
	}
	content, err := sdi.WriteMessage(ec, sdi.SchemaPA)
	if err != nil {
		return fault.Precondition("OUTCOME_NOT_WRITABLE", "the outcome cannot be written: %v; answer the whole file (position 0)", err)
	}
	name := sdi.NewMessageName(row.FileName, sdi.EC, len(given)+1)
	err = q.InsertOutcome(ctx, db.InsertOutcomeParams{
		ID: id, TenantID: row.TenantID, FileID: row.ID, Position: req.GetPosition(), Outcome: string(ec.Esito), Cause: int32(req.GetCause()),
		Description: words, SdiID: row.SdiID, FileName: name.String(), Content: content, Channel: row.Channel, CreatedAt: pg.Time(s.now()),
	})
	if err != nil {
		return err
	}
	err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "inbound.outcome", Resource: inboundName(row), Detail: map[string]string{
		"outcome": string(ec.Esito), "cause": req.GetCause().String(), "file_name": name.String()}})
	if err != nil {
		return err
	}
	if row.Channel == channelFTP {
		return nil // it is gathered into a support
	}
	return s.jobs.InsertTx(ctx, tx, sendOutcomeArgs{Outcome: id}, nil)
}

// mayAnswer says why an outcome cannot be given.
func (s *inbound) mayAnswer(row *db.InboundFile, position int32, bodies int, given []db.OutcomesOfFileRow) error {
	switch {
	case row.Format != formatPublic:
		return fault.Precondition("OUTCOME_NOT_FOR_PRIVATE", "%s is of the private flow (%s): SdI takes outcomes of public bodies only", inboundName(row), row.Format)
	case expired(row, s.now()):
		when := "SdI has sent the notice that it is over"
		if row.ExpiredAt == nil {
			when = "it ended on " + row.AnswerBy.In(sdi.Roma()).Format("2006-01-02 15:04")
		}
		return fault.Precondition("OUTCOME_WINDOW_EXPIRED", "the term of fifteen days for an outcome of %s is over: %s; nothing was sent", inboundName(row), when)
	case int(position) > bodies:
		return fault.Invalid("OUTCOME_POSITION_UNKNOWN", "position: the file has %d documents", bodies).
			WithField("position", "OUTCOME_POSITION_UNKNOWN", "is beyond the last document")
	case len(given) >= maxOutcomes:
		return fault.Precondition("OUTCOME_NAMES_EXHAUSTED", "the file has had %d outcomes: no name is left", len(given))
	}
	for _, o := range given {
		if o.State == outcomeRefused || o.Position != position && o.Position != 0 && position != 0 {
			continue
		}
		return fault.Conflict("OUTCOME_ALREADY_GIVEN", "an outcome (%s) of document %d stands or is on its way (%s): at most one is taken", o.Outcome, o.Position, o.State)
	}
	return nil
}
