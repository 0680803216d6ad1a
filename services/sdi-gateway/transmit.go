package sdigateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// transmitArgs is the promise to send one file.
type transmitArgs struct {
	Transmission uuid.UUID `json:"transmission"`
	// Forced: a person wants it tried although SdI does not answer or others wait; a pause holds all the same.
	Forced bool `json:"forced,omitempty"`
}

// Kind names the job in the database.
func (transmitArgs) Kind() string { return "sdi_transmit" }

// transmitManyArgs is the promise to send files of one tenant together: each is a call of its own, and
// their beginnings and ends are written down in one transaction each.
type transmitManyArgs struct {
	Files []promisedFile `json:"files"`
}

// promisedFile is one of them and the event that asked for it.
type promisedFile struct {
	Transmission uuid.UUID `json:"transmission"`
	Causation    string    `json:"causation,omitempty"`
}

// Kind names the job in the database.
func (transmitManyArgs) Kind() string { return "sdi_transmit_many" }

// filesPerJob bounds what one job sends together, and manyWorkers how many such jobs run at a time; the
// connections to SdI are bounded by Config.Workers all the same.
const (
	filesPerJob = 16
	manyWorkers = 4
)

// onInvoiceAccepted reserves the name of a file that needs no signature of ours; the others come as DocumentSigned.
func (s *Service) onInvoiceAccepted(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
	if ev.GetCorrects() != "" {
		err := db.New(tx).SetCorrected(ctx, db.SetCorrectedParams{TenantID: pg.Tenant(ctx), Invoice: ev.GetCorrects(), CorrectedBy: ev.GetInvoice()})
		if err != nil {
			return err
		}
	}
	if ev.GetSign() {
		return nil
	}
	ext := sdi.ExtXML
	if ev.GetOriginal().GetMediaType() == mediaP7M {
		ext = sdi.ExtP7M // it came signed
	}
	return s.reserve(ctx, tx, ev.GetInvoice(), ev.GetFormat(), ev.GetOriginal(), ext)
}

func (s *Service) onDocumentSigned(ctx context.Context, tx pgx.Tx, ev *signv1.DocumentSigned) error {
	if ev.GetFormat() == "" {
		return nil // signed for another service: not an invoice
	}
	return s.reserve(ctx, tx, ev.GetSubject(), ev.GetFormat(), ev.GetSigned(), sdi.ExtP7M)
}

// reserve writes down under which name the file will be sent, and promises to send it, in the
// transaction of the event. From here on this document has this name and no other.
func (s *Service) reserve(ctx context.Context, tx pgx.Tx, invoice, format string, file *eventv1.Blob, ext sdi.Extension) error {
	ref, err := blob.ParseURI(file.GetUri())
	if err != nil {
		return fault.Invalid("SDI_FILE_REFERENCE", "the event's reference to the file cannot be read: %v", err)
	}
	if ref.Size > sdi.MaxFileSize {
		return fault.Invalid("SDI_FILE_TOO_LARGE", "the file has %d bytes; SdI takes at most %d", ref.Size, sdi.MaxFileSize)
	}
	err = s.knowPosts(ctx)
	if err != nil {
		return err
	}
	name, err := s.names.take(ctx)
	if err != nil {
		return err
	}
	name.Ext = ext
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	unit := pg.UnitOf(ctx, tx)
	r := &reservations{}
	if unit != nil {
		r, _ = unit.Value(reservationsKey{s}, func() any {
			unit.Before(func(ctx context.Context, tx pgx.Tx) error { return s.promise(ctx, tx, r) })
			return r
		}).(*reservations)
	}
	r.add(ctx, id, &r.rows)
	r.rows.CreatedAt = pg.Time(s.now())
	r.rows.Invoices, r.rows.Formats = append(r.rows.Invoices, invoice), append(r.rows.Formats, format)
	r.rows.FileNames, r.rows.FileKeys = append(r.rows.FileNames, name.String()), append(r.rows.FileKeys, sdi.NameKey(name.Stem()))
	r.rows.FileUris, r.rows.FileHashes = append(r.rows.FileUris, file.GetUri()), append(r.rows.FileHashes, ref.SHA256[:])
	r.rows.Channels = append(r.rows.Channels, s.channelFor(invoice))
	if unit == nil {
		return s.promise(ctx, tx, r)
	}
	return nil
}

// reservations gathers what the events of one transaction reserve.
type reservations struct {
	rows  db.InsertTransmissionsParams
	asked map[uuid.UUID]context.Context // of the event
}

type reservationsKey struct{ s *Service }

func (r *reservations) add(ctx context.Context, id uuid.UUID, rows *db.InsertTransmissionsParams) {
	if r.asked == nil {
		r.asked = map[uuid.UUID]context.Context{}
	}
	r.asked[id] = ctx
	rows.TenantID = pg.Tenant(ctx)
	rows.Ids, rows.Traceparents = append(rows.Ids, id), append(rows.Traceparents, telemetry.Inject(ctx))
}

// promise writes the reservations and the jobs that send the files. An invoice that has its transmission
// already gets no other; the name just taken stays a gap.
func (s *Service) promise(ctx context.Context, tx pgx.Tx, r *reservations) error {
	rows, err := db.New(tx).InsertTransmissions(ctx, r.rows)
	if err != nil {
		return err
	}
	var ids []uuid.UUID
	for _, row := range rows {
		if row.Channel == channelCoop { // the others are gathered
			ids = append(ids, row.ID)
		}
	}
	if len(ids) == 1 {
		return s.jobs.InsertTx(r.asked[ids[0]], tx, transmitArgs{Transmission: ids[0]}, nil)
	}
	for chunk := range slices.Chunk(ids, filesPerJob) {
		var args transmitManyArgs
		for _, id := range chunk {
			args.Files = append(args.Files, promisedFile{Transmission: id, Causation: bus.Meta(r.asked[id]).ID})
		}
		err = s.jobs.InsertTx(ctx, tx, args, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// transmitNext sends one file: intent (the reserved name, the counted attempt), act, record. What failed and may
// be repeated goes to the backlog. A call whose outcome is unknown is repeated under the same name, and only
// after resend_after: when the first call had arrived its receipts come within that time and nothing is repeated.
func (s *Service) transmitNext(ctx context.Context, job *river.Job[transmitArgs]) error {
	free, err := s.holdBack(ctx, []uuid.UUID{job.Args.Transmission}, job.Args.Forced)
	if err != nil || len(free) == 0 {
		return err
	}
	t, wait, err := s.begin(ctx, job.Args.Transmission)
	if err != nil || t == nil && wait == 0 {
		return err // nil: sent, or a receipt has told us that it was
	}
	if t == nil {
		return river.JobSnooze(wait)
	}
	answer, by, err := s.transmit(ctx, t)
	if err == nil {
		return s.db.Tx(ctx, t.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			return s.recordSent(ctx, tx, map[uuid.UUID]handover{t.ID: answer}, func(ctx context.Context, _ *db.LockTransmissionsRow) context.Context { return ctx })
		})
	}
	recordErr := s.recordFailure(ctx, *t, by, err)
	if recordErr != nil {
		return errors.Join(err, recordErr)
	}
	if fault.Permanent(err) {
		return err
	}
	return nil // it waits in the backlog, for days if need be
}

// patience is how long after a failed call the next one is made at the earliest.
func (s *Service) patience(err error) time.Duration {
	if fault.Of(err).Code == codeUnknownOutcome {
		return s.cfg.ResendAfter
	}
	return max(fault.Of(err).RetryAfter, s.cfg.RetryEvery)
}

// handover is what SdI says of a file that it has: its identifier, empty when only a message will tell it, and when
// it received it, zero when it does not say.
type handover struct {
	sdiID string
	at    time.Time
}

// transmit reads the file and makes the call; it gives what SdI answered, or else by when the file must be sent. A
// file that could not be read was not sent either: it counts as a call that surely left nothing at SdI.
func (s *Service) transmit(ctx context.Context, t *db.BeginAttemptsRow) (got handover, by *time.Time, err error) {
	ref, err := blob.ParseURI(t.FileUri)
	if err != nil {
		return got, nil, err
	}
	content, err := s.blobs.Get(ctx, ref)
	if err != nil {
		return got, nil, err
	}
	answer, err := s.send(ctx, sdi.FileSdIBase{NomeFile: t.FileName, File: content})
	if err != nil {
		at, ok := fileSendBy(content)
		if ok {
			by = &at
		}
	}
	return handover{answer.IdentificativoSdI, answer.DataOraRicezione}, by, err
}

// begin counts an attempt and takes its lease. It gives no transmission when there is nothing to send, and
// a pause when a call was begun and not recorded: its process was killed in the middle, so its outcome is
// unknown and receipts are awaited before it is repeated.
func (s *Service) begin(ctx context.Context, id uuid.UUID) (t *db.BeginAttemptsRow, wait time.Duration, err error) {
	lease := s.cfg.CallTimeout + s.cfg.ResendAfter
	err = s.db.Tx(ctx, pg.Tenant(ctx), func(ctx context.Context, tx pgx.Tx) error {
		now := pg.Time(s.now())
		begun, err := db.New(tx).BeginAttempts(ctx, db.BeginAttemptsParams{Ids: []uuid.UUID{id}, Now: &now, Stale: now.Add(-lease)})
		if err != nil {
			return err
		}
		if len(begun) == 1 {
			t = &begun[0]
			return nil
		}
		since, err := db.New(tx).AttemptSince(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err == nil && since != nil {
			wait = max(since.Add(lease).Sub(now), time.Second/10)
		}
		return err
	})
	return t, wait, err
}

// Codes of failed calls. They are part of TransmissionFailed and of parked jobs.
const (
	codeUnknownOutcome = "SDI_OUTCOME_UNKNOWN"
	codeUnreachable    = "SDI_UNREACHABLE"
	codeUnavailable    = "SDI_EI02"
	codeEmptyFile      = "SDI_EI01"
	codeNotEnabled     = "SDI_EI03"
	codeRefused        = "SDI_REFUSED"
)

// send calls RiceviFile once. Its faults: Unavailable when a repeat is right (with code
// SDI_OUTCOME_UNKNOWN when the file may have arrived), Precondition or Invalid when it is not.
func (s *Service) send(ctx context.Context, file sdi.FileSdIBase) (sdi.RispostaSdIRiceviFile, error) {
	select { // not more calls than connections: none waits for one after it has begun
	case s.calls <- struct{}{}:
		defer func() { <-s.calls }()
	case <-ctx.Done():
		return sdi.RispostaSdIRiceviFile{}, fault.Unavailable(codeUnreachable, "the call was not made: no connection to SdI was free in time").With(ctx.Err())
	}
	own, paced := ctx.Value(turnKey{}).(*turn)
	for {
		if paced {
			err := s.renew(ctx, own)
			if err != nil {
				return sdi.RispostaSdIRiceviFile{}, err
			}
		}
		answer, err := s.callOnce(ctx, file)
		if !errors.Is(err, errTurnOver) {
			return answer, err
		}
	}
}

func (s *Service) callOnce(ctx context.Context, file sdi.FileSdIBase) (sdi.RispostaSdIRiceviFile, error) {
	var answer sdi.RispostaSdIRiceviFile
	err := s.breaker.Do(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
		defer cancel()
		var err error
		answer, err = s.client.RiceviFile(ctx, file)
		if err != nil {
			return callFault(err)
		}
		return answerFault(answer)
	})
	return answer, err
}

func callFault(err error) error {
	var call *sdi.CallError
	switch {
	case errors.As(err, &call) && call.Unknown():
		return fault.Unavailable(codeUnknownOutcome, "the call ended without an answer, the file may have arrived: %v", err).With(err)
	case errors.Is(err, errTurnOver): // says nothing about SdI
		return fault.Aborted(codeTurnOver, "the call was not made: %v", err).With(err)
	case errors.As(err, &call) && !call.Sent:
		return fault.Unavailable(codeUnreachable, "SdI cannot be reached: %v", err).With(err)
	case errors.As(err, &call):
		return fault.Precondition(codeRefused, "SdI refused the call: %v", err).With(err)
	}
	return fault.Invalid(codeRefused, "the file cannot be sent: %v", err).With(err)
}

// answerFault maps the answers that are no handover.
// spec: wsdl TrasmissioneTypes-1.1 erroreInvio_Type
func answerFault(answer sdi.RispostaSdIRiceviFile) error {
	if answer.Accepted() {
		return nil
	}
	switch answer.Errore {
	case sdi.EI01:
		return fault.Invalid(codeEmptyFile, "SdI says that the file is empty (EI01)")
	case sdi.EI03:
		return fault.Precondition(codeNotEnabled, "SdI says that this transmitter is not enabled (EI03): check the accreditation and the client certificate, then retry")
	case sdi.EI02:
		// The texts do not say whether the file counts: the name is kept, receipts are awaited first.
		return fault.Unavailable(codeUnknownOutcome, "SdI says that the service is unavailable (EI02)")
	}
	return fault.Unavailable(codeUnknownOutcome, "SdI's answer has neither a usable IdentificativoSdI (%q) nor a known error (%q)",
		answer.IdentificativoSdI, string(answer.Errore))
}

// recordSent writes down what SdI answered and tells the others. A receipt may have been quicker. story
// makes the context in which a file's event is emitted.
func (s *Service) recordSent(ctx context.Context, tx pgx.Tx, answers map[uuid.UUID]handover, story func(context.Context, *db.LockTransmissionsRow) context.Context) error {
	rows, err := db.New(tx).LockTransmissions(ctx, slices.Collect(maps.Keys(answers)))
	if err != nil {
		return err
	}
	var fresh []*db.LockTransmissionsRow
	for i := range rows {
		t := &rows[i]
		if facts(t.Facts)&factSent != 0 {
			continue
		}
		markTaken(t, answers[t.ID].at, s.now())
		err = s.markSent(story(ctx, t), tx, t, answers[t.ID].sdiID)
		if err != nil {
			return err
		}
		fresh = append(fresh, t)
	}
	return s.store(ctx, tx, fresh)
}

// markSent adds the fact that SdI has the file, and emits InvoiceTransmitted, once. The caller stores t.
func (s *Service) markSent(ctx context.Context, tx pgx.Tx, t *db.LockTransmissionsRow, sdiID string) error {
	now := pg.Time(s.now())
	if t.SdiID == "" {
		t.SdiID = sdiID
	}
	if t.SentAt == nil {
		t.SentAt = &now
	}
	t.Facts |= int32(factSent)
	ref, err := blob.ParseURI(t.FileUri)
	if err != nil {
		return err
	}
	return s.bus.Emit(ctx, tx, &sdiv1.InvoiceTransmitted{
		Invoice: t.Invoice, Transmission: transmissionName(t.TenantID, t.ID), FileName: t.FileName, SdiId: t.SdiID,
		Transmitted: &eventv1.Blob{Uri: t.FileUri, Sha256: ref.SHA256[:], Size: ref.Size, MediaType: mediaType(t.FileName)},
		SendTime:    timestamppb.New(*t.SentAt),
	})
}

// store writes what is known of each now, and the state that follows from it.
func (s *Service) store(ctx context.Context, tx pgx.Tx, rows []*db.LockTransmissionsRow) error {
	if len(rows) == 0 {
		return nil
	}
	p := db.UpdateTransmissionsParams{Now: pg.Time(s.now())}
	for _, t := range rows {
		t.State = stateOf(t.Format, facts(t.Facts))
		setTerm(t)
		p.Ids, p.Facts, p.States = append(p.Ids, t.ID), append(p.Facts, t.Facts), append(p.States, t.State)
		p.SdiIds, p.SentAts = append(p.SdiIds, t.SdiID), append(p.SentAts, timeText(t.SentAt))
		p.TakenAts = append(p.TakenAts, timeText(t.TakenAt))
		p.RcAts, p.McAts, p.NsAts = append(p.RcAts, timeText(t.RcAt)), append(p.McAts, timeText(t.McAt)), append(p.NsAts, timeText(t.NsAt))
		p.DueKinds, p.DueAts, p.DueTolds = append(p.DueKinds, t.DueKind), append(p.DueAts, timeText(t.DueAt)), append(p.DueTolds, t.DueTold)
	}
	return db.New(tx).UpdateTransmissions(ctx, p)
}

// timeText is a time as the query takes it; -infinity is its word for none.
func timeText(t *time.Time) string {
	if t == nil {
		return "-infinity"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// recordFailure keeps the reason where operators see it. When no repeat can help, the customer is
// told too; the job is parked with its reason and can be retried once that is mended.
func (s *Service) recordFailure(ctx context.Context, t db.BeginAttemptsRow, by *time.Time, cause error) error {
	f := fault.Of(cause)
	return s.db.Tx(ctx, t.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		err := db.New(tx).RecordFailure(ctx, s.failure(t.ID, by, cause))
		if err != nil || !fault.Permanent(cause) {
			return err
		}
		return s.bus.Emit(ctx, tx, &sdiv1.TransmissionFailed{
			Invoice: t.Invoice, Transmission: transmissionName(t.TenantID, t.ID), Code: f.Code, Message: f.Message,
		})
	})
}

func transmissionName(tenant string, id uuid.UUID) string {
	return fmt.Sprintf("tenants/%s/transmissions/%s", tenant, id)
}

func mediaType(fileName string) string {
	name, err := sdi.ParseFileName(fileName)
	if err == nil && name.Ext == sdi.ExtP7M {
		return mediaP7M
	}
	return "application/xml"
}

// mediaP7M is the type of a file in a signature envelope.
const mediaP7M = "application/pkcs7-mime"
