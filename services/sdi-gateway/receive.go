package sdigateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// readArgs is the promise to read one message.
type readArgs struct {
	Message uuid.UUID `json:"message"`
}

// Kind names the job in the database.
func (readArgs) Kind() string { return "sdi_read_message" }

// receive takes one callback in: the raw bytes are committed before SdI gets its answer, since SdI
// forgets the message on success. Nothing is understood here, so nothing can be refused for its content.
func (s *Service) receive(r *http.Request, op sdi.Operation, file sdi.FileSdI) error {
	ctx := r.Context()
	sum := sha256.Sum256(file.File)
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		saved, err := db.New(tx).SaveMessage(ctx, db.SaveMessageParams{
			ID: id, Operation: op.String(), FileName: file.NomeFile, SdiID: file.IdentificativoSdI,
			Sha256: sum[:], Raw: file.File, ReceivedAt: pg.Time(s.now()),
		})
		if err != nil || !saved.First {
			return err
		}
		return s.jobs.InsertTx(ctx, tx, readArgs{Message: saved.ID}, nil)
	})
	if err != nil {
		s.log.ErrorContext(ctx, "a message of SdI was not taken in; SdI will send it again", "operation", op.String(),
			"sdi_id", file.IdentificativoSdI, "error", err)
		return &sdi.Fault{Code: "Server", String: "the message could not be stored, send it again"}
	}
	return nil
}

// readMessage understands one message, finds its transmission and moves the state. A message that
// cannot be read or matched stays as it came, without a tenant, in the list of unmatched messages.
func (s *Service) readMessage(ctx context.Context, job *river.Job[readArgs]) error {
	var m db.ReadMessageRow
	var message *sdi.Message
	var match db.MatchTransmissionRow
	var parseErr, matchErr error
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		m, err = db.New(tx).ReadMessage(ctx, job.Args.Message)
		if err != nil || m.AppliedAt != nil {
			return err
		}
		message, parseErr = sdi.ParseMessage(m.FileName, m.Raw)
		if parseErr != nil {
			return nil
		}
		match, matchErr = db.New(tx).MatchTransmission(ctx, db.MatchTransmissionParams{SdiID: m.SdiID, FileKey: fileKey(m, message)})
		if errors.Is(matchErr, pgx.ErrNoRows) {
			return nil
		}
		return matchErr
	})
	switch {
	case err != nil || m.AppliedAt != nil:
		return err
	case parseErr != nil:
		return s.unreadable(ctx, m, "", fault.Invalid("SDI_MESSAGE_UNREADABLE", "message %s of file %s cannot be read: %v", m.FileName, m.SdiID, parseErr))
	}
	fact, ok := factOf(message)
	if !ok {
		return s.unreadable(ctx, m, string(message.Type()), fault.Invalid("SDI_MESSAGE_UNEXPECTED",
			"a message of type %s is not for a transmitter", message.Type()))
	}
	if matchErr != nil {
		return s.unmatched(ctx, m, message, "SDI_UNKNOWN_FILE: no transmission has this IdentificativoSdI or file name")
	}
	return s.apply(ctx, m, message, fact, match)
}

// unreadable leaves the reason at the message and parks the job.
func (s *Service) unreadable(ctx context.Context, m db.ReadMessageRow, kind string, cause *fault.Fault) error {
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).SetMessageProblem(ctx, db.SetMessageProblemParams{ID: m.ID, Type: kind, Problem: cause.Code + ": " + cause.Message})
	})
	if err != nil {
		return err
	}
	return cause
}

// apply moves the transmission of a message. It was found by the identifier that SdI put on the call, else
// by the reserved name; a message that states the hash of other bytes is not about our file all the same.
func (s *Service) apply(ctx context.Context, m db.ReadMessageRow, message *sdi.Message, fact facts, match db.MatchTransmissionRow) error {
	stated := message.Head().Hash
	if stated != "" && !strings.EqualFold(stated, hex.EncodeToString(match.FileSha256)) {
		return s.unmatched(ctx, m, message, fmt.Sprintf("SDI_HASH_MISMATCH: the message is about a file with SHA-256 %s, ours has %x", stated, match.FileSha256))
	}
	// The blob comes before the row that names it; a crash in between leaves a blob that the repeat finds again.
	ref, err := s.blobs.Put(ctx, match.TenantID, m.Raw)
	if err != nil {
		return err
	}
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return s.move(pg.WithTenant(ctx, match.TenantID), tx, m, message, fact, match.ID, ref)
	})
}

// fileKey is the reserved name that a message speaks of: from its content, else from its own name.
func fileKey(m db.ReadMessageRow, message *sdi.Message) string {
	name, err := sdi.ParseFileName(message.Head().NomeFile)
	if err == nil {
		return sdi.NameKey(name.Stem())
	}
	own, err := sdi.ParseMessageName(m.FileName)
	if err == nil {
		return sdi.NameKey(own.Stem)
	}
	return ""
}

func (s *Service) unmatched(ctx context.Context, m db.ReadMessageRow, message *sdi.Message, problem string) error {
	s.log.WarnContext(ctx, "a message of SdI belongs to no transmission; it is kept", "message", m.ID, "sdi_id", m.SdiID, "problem", problem)
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).SetMessageProblem(ctx, db.SetMessageProblemParams{ID: m.ID, Type: string(message.Type()), Problem: problem})
	})
}

// move adds the fact to the transmission, in one transaction with the message's assignment and the event.
func (s *Service) move(ctx context.Context, tx pgx.Tx, m db.ReadMessageRow, message *sdi.Message, fact facts, id uuid.UUID, ref blob.Ref) error {
	applied, err := db.New(tx).LockMessage(ctx, m.ID)
	if err != nil || applied != nil {
		return err
	}
	t, err := db.New(tx).LockTransmission(ctx, id)
	if err != nil {
		return err
	}
	ctx, span := inInvoiceTrace(bus.WithCorrelation(ctx, path.Base(t.Invoice)), t.Traceparent, string(message.Type()))
	defer span.End()
	problem := ""
	before := facts(t.Facts)
	ns, discarded := message.Contenuto.(*sdi.NotificaScarto)
	switch {
	case discarded && repeatOfOurs(t.Attempts, ns):
		problem = "SDI_REPEAT_OF_OURS: SdI discarded our own repeat; the outcome comes for the first call"
		fact = 0
	case before&fact == 0:
		t.Facts |= int32(fact)
		problem = contradiction(t.Format, facts(t.Facts))
		if problem != "" {
			problem = "SDI_CONTRADICTION: " + problem
		}
	}
	err = s.settle(ctx, tx, &t, m, fact, before)
	if err != nil {
		return err
	}
	now := pg.Time(s.now())
	err = db.New(tx).AssignMessage(ctx, db.AssignMessageParams{
		ID: m.ID, TenantID: t.TenantID, TransmissionID: &t.ID, Type: string(message.Type()),
		ContentUri: ref.URI(), AppliedAt: &now, Problem: problem,
	})
	if err != nil || fact == 0 || before&fact != 0 {
		return err
	}
	return s.bus.Emit(ctx, tx, eventOf(t, m, message, ref))
}

// inInvoiceTrace goes on in the trace of the invoice: SdI carries no trace context, so what came from it
// began a trace of its own, to which the new span is linked.
func inInvoiceTrace(ctx context.Context, traceparent, kind string) (context.Context, trace.Span) {
	if traceparent == "" {
		return telemetry.Tracer().Start(ctx, "sdi message "+kind)
	}
	link := trace.LinkFromContext(ctx)
	return telemetry.Tracer().Start(telemetry.Extract(ctx, traceparent), "sdi message "+kind, trace.WithLinks(link))
}

// settle stores the new facts. A message about a file proves that SdI has it: when the answer to
// our call was lost, this is where we learn the identifier.
func (s *Service) settle(ctx context.Context, tx pgx.Tx, t *db.LockTransmissionRow, m db.ReadMessageRow, fact, before facts) error {
	if fact != 0 && m.SdiID != "" {
		t.SdiID = m.SdiID
	}
	if fact != 0 && before&factSent == 0 {
		return s.markSent(ctx, tx, t, m.SdiID)
	}
	return s.store(ctx, tx, t)
}

// eventOf is the fact as the other services hear it.
func eventOf(t db.LockTransmissionRow, m db.ReadMessageRow, message *sdi.Message, ref blob.Ref) proto.Message {
	receipt := &sdiv1.Receipt{
		Type: string(message.Type()), FileName: m.FileName, ReceiveTime: timestamppb.New(m.ReceivedAt),
		Content: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: messageMediaType(m.FileName)},
	}
	switch c := message.Contenuto.(type) {
	case *sdi.RicevutaConsegna:
		return &sdiv1.InvoiceDelivered{Invoice: t.Invoice, SdiId: t.SdiID, Receipt: receipt, Format: t.Format}
	case *sdi.NotificaMancataConsegna:
		return &sdiv1.InvoiceNotDelivered{Invoice: t.Invoice, SdiId: t.SdiID, Receipt: receipt, Format: t.Format}
	case *sdi.NotificaScarto:
		discarded := &sdiv1.InvoiceDiscarded{Invoice: t.Invoice, SdiId: t.SdiID, Receipt: receipt}
		for _, e := range c.ListaErrori {
			discarded.Errors = append(discarded.Errors, &sdiv1.RejectionError{Code: e.Codice, Message: e.Descrizione, Hint: e.Suggerimento})
		}
		return discarded
	case *sdi.NotificaEsito:
		return &sdiv1.InvoiceOutcomeReceived{Invoice: t.Invoice, SdiId: t.SdiID, Receipt: receipt,
			Outcome: string(c.EsitoCommittente.Esito), Description: c.EsitoCommittente.Descrizione}
	case *sdi.NotificaDecorrenzaTermini:
		return &sdiv1.InvoiceTermExpired{Invoice: t.Invoice, SdiId: t.SdiID, Receipt: receipt}
	default: // factOf has let through nothing else
		return &sdiv1.InvoiceAttested{Invoice: t.Invoice, SdiId: t.SdiID, Receipt: receipt}
	}
}

func messageMediaType(fileName string) string {
	if strings.HasSuffix(strings.ToLower(fileName), ".zip") {
		return "application/zip"
	}
	return "application/xml"
}
