package sdigateway

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
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

// readManyArgs is the promise to read messages that were saved together.
type readManyArgs struct {
	Messages []uuid.UUID `json:"messages"`
}

// Kind names the job in the database.
func (readManyArgs) Kind() string { return "sdi_read_messages" }

// reading is one message and what it was found to mean.
type reading struct {
	db.ReadMessagesRow
	message *sdi.Message
	fact    facts
	match   db.MatchTransmissionsRow
	ref     blob.Ref
	problem string // why it belongs to no transmission; empty when it does
	claim   string // whose decision it was that it belongs to one; empty when it was nobody's
	seal    sealReport
	fault   *fault.Fault // why it cannot be read
}

// readMessage reads one message; one that cannot be read parks the job.
func (s *Service) readMessage(ctx context.Context, job *river.Job[readArgs]) error {
	list, err := s.read(ctx, []uuid.UUID{job.Args.Message})
	if err == nil && len(list) == 1 && list[0].fault != nil {
		return list[0].fault
	}
	return err
}

// readMany reads several. Those that cannot be read go on as jobs of their own, which are parked; and all
// of them do when something fails that may be the trouble of one alone.
func (s *Service) readMany(ctx context.Context, job *river.Job[readManyArgs]) error {
	list, err := s.read(ctx, job.Args.Messages)
	var alone []uuid.UUID
	if err != nil {
		s.log.WarnContext(ctx, "messages of SdI are read one by one", "count", len(job.Args.Messages), "error", err)
		alone = job.Args.Messages
	}
	for _, r := range list {
		if r.fault != nil && err == nil {
			alone = append(alone, r.ID)
		}
	}
	if len(alone) == 0 {
		return nil
	}
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		for _, id := range alone {
			err := s.jobs.InsertTx(ctx, tx, readArgs{Message: id}, nil)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// read understands messages, finds their transmissions and moves the states. A message that cannot be
// read or matched stays as it came, without a tenant, in the list of unmatched messages.
func (s *Service) read(ctx context.Context, ids []uuid.UUID) ([]reading, error) {
	list, err := s.understand(ctx, ids)
	if err != nil {
		return nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	for i := range list {
		r := &list[i]
		if r.fault != nil || r.problem != "" {
			continue
		}
		// The blob comes before the row that names it; a crash in between leaves a blob that the repeat finds again.
		g.Go(func() (err error) {
			r.ref, err = s.blobs.Put(gctx, r.match.TenantID, r.Raw)
			return err
		})
	}
	err = g.Wait()
	if err != nil {
		return nil, err
	}
	return list, s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error { return s.apply(ctx, tx, list) })
}

// understand reads what is not applied yet and finds out whose it is.
func (s *Service) understand(ctx context.Context, ids []uuid.UUID) (list []reading, err error) {
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ReadMessages(ctx, ids)
		if err != nil {
			return err
		}
		var p db.MatchTransmissionsParams
		for _, m := range rows {
			r := reading{ReadMessagesRow: m}
			r.parse()
			if r.message != nil {
				r.seal = checkSeal(r.message, s.receipts, s.now())
			}
			list = append(list, r)
			if r.fault == nil {
				p.MessageIds, p.SdiIds, p.FileKeys = append(p.MessageIds, m.ID), append(p.SdiIds, m.SdiID), append(p.FileKeys, r.fileKey())
			}
		}
		matches, err := db.New(tx).MatchTransmissions(ctx, p)
		if err != nil {
			return err
		}
		found := map[uuid.UUID]db.MatchTransmissionsRow{}
		for _, m := range matches {
			found[m.MessageID] = m
		}
		for i := range list {
			list[i].judge(found)
		}
		return nil
	})
	return list, err
}

func (r *reading) parse() {
	message, err := sdi.ParseMessage(r.FileName, r.Raw)
	if err != nil {
		r.fault = fault.Invalid("SDI_MESSAGE_UNREADABLE", "message %s of file %s cannot be read: %v", r.FileName, r.SdiID, err)
		return
	}
	r.message = message
	var ok bool
	r.fact, ok = factOf(message)
	if !ok {
		r.fault = fault.Invalid("SDI_MESSAGE_UNEXPECTED", "a message of type %s is not for a transmitter", message.Type())
	}
}

// judge says whether the message is about the transmission that was found by the identifier that SdI put on
// the call, else by the reserved name. One that states the hash of other bytes is not about our file.
func (r *reading) judge(found map[uuid.UUID]db.MatchTransmissionsRow) {
	if r.fault != nil {
		return
	}
	var ok bool
	r.match, ok = found[r.ID]
	if !ok {
		r.problem = "SDI_UNKNOWN_FILE: no transmission has this IdentificativoSdI or file name"
		return
	}
	stated := r.message.Head().Hash
	if stated != "" && !strings.EqualFold(stated, hex.EncodeToString(r.match.FileSha256)) {
		r.problem = fmt.Sprintf("SDI_HASH_MISMATCH: the message is about a file with SHA-256 %s, ours has %x", stated, r.match.FileSha256)
	}
}

// fileKey is the reserved name that a message speaks of: from its content, else from its own name.
func (r *reading) fileKey() string {
	name, err := sdi.ParseFileName(r.message.Head().NomeFile)
	if err == nil {
		return sdi.NameKey(name.Stem())
	}
	own, err := sdi.ParseMessageName(r.FileName)
	if err == nil {
		return sdi.NameKey(own.Stem)
	}
	return ""
}

// kept leaves the reason at a message that belongs to nobody.
func (s *Service) kept(ctx context.Context, tx pgx.Tx, r *reading) error {
	p := db.SetMessageProblemParams{ID: r.ID, Problem: r.problem}
	if r.message != nil {
		p.Type, p.Signature = string(r.message.Type()), r.seal.text()
	}
	if r.fault != nil {
		p.Problem = r.fault.Code + ": " + r.fault.Message
	} else {
		s.log.WarnContext(ctx, "a message of SdI belongs to no transmission; it is kept", "message", r.ID, "sdi_id", r.SdiID, "problem", r.problem)
	}
	return db.New(tx).SetMessageProblem(ctx, p)
}

// apply moves the transmissions of the messages, in one transaction with their assignment and the events.
func (s *Service) apply(ctx context.Context, tx pgx.Tx, list []reading) error {
	var messages, transmissions []uuid.UUID
	for i := range list {
		r := &list[i]
		if r.fault != nil || r.problem != "" {
			err := s.kept(ctx, tx, r)
			if err != nil {
				return err
			}
			continue
		}
		messages, transmissions = append(messages, r.ID), append(transmissions, r.match.ID)
	}
	if len(messages) == 0 {
		return nil
	}
	unapplied, err := db.New(tx).LockMessages(ctx, messages)
	if err != nil {
		return err
	}
	rows, err := db.New(tx).LockTransmissions(ctx, transmissions)
	if err != nil {
		return err
	}
	known := make(map[uuid.UUID]*db.LockTransmissionsRow, len(rows))
	for i := range rows {
		known[rows[i].ID] = &rows[i]
	}
	now := pg.Time(s.now())
	assigned := db.AssignMessagesParams{AppliedAt: &now}
	moved := map[uuid.UUID]*db.LockTransmissionsRow{}
	for i := range list {
		r, t := &list[i], known[list[i].match.ID]
		if t == nil || r.problem != "" || !slices.Contains(unapplied, r.ID) {
			continue
		}
		problem, err := s.move(pg.WithTenant(ctx, t.TenantID), tx, r, t)
		if err != nil {
			return err
		}
		if r.claim != "" {
			problem = strings.TrimSuffix(r.claim+"; "+problem, "; ")
		}
		moved[t.ID] = t
		assigned.Ids, assigned.TenantIds = append(assigned.Ids, r.ID), append(assigned.TenantIds, t.TenantID)
		assigned.TransmissionIds, assigned.Types = append(assigned.TransmissionIds, t.ID), append(assigned.Types, string(r.message.Type()))
		assigned.ContentUris, assigned.Problems = append(assigned.ContentUris, r.ref.URI()), append(assigned.Problems, problem)
		assigned.Signatures = append(assigned.Signatures, r.seal.text())
	}
	err = s.store(ctx, tx, slices.Collect(maps.Values(moved)))
	if err != nil || len(assigned.Ids) == 0 {
		return err
	}
	return db.New(tx).AssignMessages(ctx, assigned)
}

// move adds the fact of a message to its transmission and emits it; it tells what is odd about it.
func (s *Service) move(ctx context.Context, tx pgx.Tx, r *reading, t *db.LockTransmissionsRow) (problem string, err error) {
	ctx, span := inInvoiceTrace(bus.WithCorrelation(ctx, path.Base(t.Invoice)), t.Traceparent, string(r.message.Type()))
	defer span.End()
	fact, before := r.fact, facts(t.Facts)
	ns, discarded := r.message.Contenuto.(*sdi.NotificaScarto)
	switch {
	case discarded && repeatOfOurs(t.Attempts, ns):
		return "SDI_REPEAT_OF_OURS: SdI discarded our own repeat; the outcome comes for the first call", nil
	case before&fact == 0:
		t.Facts |= int32(fact)
		mark(t, r)
		problem = contradiction(t.Format, facts(t.Facts))
		if problem != "" {
			problem = "SDI_CONTRADICTION: " + problem
		}
	}
	// A message about a file proves that SdI has it: when the answer to our call was lost, this is where
	// we learn the identifier.
	if r.SdiID != "" && (r.claim == "" || t.SdiID == "") {
		t.SdiID = r.SdiID
	}
	markTaken(t, r.message.Head().DataOraRicezione, r.ReceivedAt)
	if before&factSent == 0 {
		err = s.markSent(ctx, tx, t, r.SdiID)
	}
	if err != nil || before&fact != 0 {
		return problem, err
	}
	return problem, s.bus.Emit(ctx, tx, eventOf(t, r))
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

// eventOf is the fact as the other services hear it.
func eventOf(t *db.LockTransmissionsRow, r *reading) proto.Message {
	receipt := &sdiv1.Receipt{
		Type: string(r.message.Type()), FileName: r.FileName, ReceiveTime: timestamppb.New(r.ReceivedAt),
		Content: &eventv1.Blob{Uri: r.ref.URI(), Sha256: r.ref.SHA256[:], Size: r.ref.Size, MediaType: messageMediaType(r.FileName)},
	}
	switch c := r.message.Contenuto.(type) {
	case *sdi.RicevutaConsegna:
		return &sdiv1.InvoiceDelivered{Invoice: t.Invoice, SdiId: t.SdiID, Receipt: receipt, Format: t.Format}
	case *sdi.NotificaMancataConsegna:
		return &sdiv1.InvoiceNotDelivered{Invoice: t.Invoice, SdiId: t.SdiID, Receipt: receipt, Format: t.Format}
	case *sdi.NotificaScarto:
		discarded := &sdiv1.InvoiceDiscarded{Invoice: t.Invoice, SdiId: t.SdiID, Receipt: receipt}
		if t.NsAt != nil {
			discarded.ResendByTime = timestamppb.New(endOfDay(*t.NsAt, resendDays))
		}
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
