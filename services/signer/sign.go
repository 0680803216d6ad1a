package signer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"go.mozilla.org/pkcs7"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// codeNoCredential: the company has no certificate that is valid now. A new one lets it go on.
const codeNoCredential = "NO_ACTIVE_CREDENTIAL"

const mimeSigned = "application/pkcs7-mime"

// outcome is what became of one document in hand.
type outcome struct {
	row  db.Signature
	by   *readyCredential
	left *leftFile // by a run that did not live to record it
	file []byte    // signed, until it is stored
	ref  blob.Ref
	at   time.Time
	span trace.SpanContext
	err  error
}

// signNext signs the documents of a job that are still pending: read, sign with the key in Vault,
// verify, write down what is about to be in the store, store, and then one transaction with all the results. A run that dies
// leaves the next one its files to record. Two at the same time make a second signature at worst, which nobody sees: the
// record takes the first.
func (s *Service) signNext(ctx context.Context, job *river.Job[SignArgs]) error {
	tenant := job.Args.Tenant
	hand, err := s.take(ctx, tenant, job.Args.IDs)
	if err != nil {
		return s.later(job, err)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(s.cfg.Parallel)
	for i := range hand {
		if hand[i].err != nil {
			continue
		}
		g.Go(func() error {
			s.signOne(gctx, &hand[i])
			return nil // one document's failure is not the others'
		})
	}
	_ = g.Wait() // the functions return nil: each outcome has its own error
	s.store(ctx, tenant, hand)
	return s.later(job, s.record(ctx, tenant, hand))
}

// later puts a job off, without counting an attempt, while Vault is away: however long that lasts,
// nothing is parked and everything goes on by itself.
func (s *Service) later(job *river.Job[SignArgs], err error) error {
	if err == nil || fault.Of(err).Kind != fault.KindUnavailable {
		return err
	}
	const shortest, longest = 500 * time.Millisecond, 30 * time.Second
	wait := min(max(s.now().Sub(job.CreatedAt)/4, shortest), longest)
	return river.JobSnooze(max(wait, fault.Of(err).RetryAfter))
}

// take reads the pending rows and finds who signs each.
func (s *Service) take(ctx context.Context, tenant string, ids []uuid.UUID) ([]outcome, error) {
	var rows []db.TakePendingRow
	chosen := map[string]db.ChooseCredentialsRow{}
	missing := map[uuid.UUID]db.Credential{}
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		var err error
		rows, err = q.TakePending(ctx, ids)
		if err != nil || len(rows) == 0 {
			return err
		}
		choices, err := q.ChooseCredentials(ctx, db.ChooseCredentialsParams{
			TenantID: tenant, Companies: companiesOf(rows), Now: ptr(pg.Time(s.now())),
		})
		if err != nil {
			return err
		}
		for _, c := range choices {
			chosen[c.CompanyID] = c
			if s.ready.have(c.ID, c.Version) == nil {
				missing[c.ID], err = q.GetCredential(ctx, c.ID)
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("signer: take: %w", err)
	}
	hand := make([]outcome, len(rows))
	for i, row := range rows {
		hand[i].row = row.Signature
		if row.MadeBy != nil { // then there is all of it
			hand[i].left = &leftFile{refOf(tenant, row.MadeSha256, *row.MadeSize), *row.MadeBy, *row.MadeTime}
		}
		hand[i].by, hand[i].err = s.signerOf(ctx, row.Signature.CompanyID, chosen, missing)
	}
	return hand, nil
}

func ptr[T any](v T) *T { return &v }

func companiesOf(rows []db.TakePendingRow) []string {
	seen := map[string]bool{}
	var list []string
	for i := range rows {
		if company := rows[i].Signature.CompanyID; !seen[company] {
			seen[company] = true
			list = append(list, company)
		}
	}
	return list
}

func (s *Service) signerOf(ctx context.Context, company string, chosen map[string]db.ChooseCredentialsRow, missing map[uuid.UUID]db.Credential) (*readyCredential, error) {
	c, ok := chosen[company]
	if !ok {
		return nil, fault.Precondition(codeNoCredential,
			"the company has no credential for automatic signatures with a certificate that is valid now: create one and import its certificate")
	}
	if have := s.ready.have(c.ID, c.Version); have != nil {
		return have, nil
	}
	row, ok := missing[c.ID]
	if !ok { // its hour passed between the two looks
		return nil, fault.Aborted("CREDENTIAL_RECHECK", "the credential is to be looked at again")
	}
	if row.Provider != "" {
		return toLend(row), nil
	}
	return s.ready.load(ctx, row)
}

// store writes the files of a job down and puts them into the blob store, together; where one of them cannot be stored, each
// by itself.
func (s *Service) store(ctx context.Context, tenant string, hand []outcome) {
	var made []*outcome
	var files [][]byte
	for i := range hand {
		if o := &hand[i]; o.err == nil {
			made, files = append(made, o), append(files, o.file)
		}
	}
	if len(made) == 0 {
		return
	}
	if err := s.noteSigned(ctx, tenant, made); err != nil {
		for _, o := range made {
			o.err, o.file = err, nil
		}
		return
	}
	refs, err := blob.PutAll(ctx, s.blobs, tenant, files)
	for i, o := range made {
		if err == nil {
			o.ref = refs[i]
		} else {
			o.ref, o.err = s.blobs.Put(ctx, tenant, o.file)
		}
		o.file = nil
	}
}

// noteSigned writes down what is about to be in the store. Should this process die before the record, the next run
// finds it; should no row ever take it, it is destroyed with its document all the same.
func (s *Service) noteSigned(ctx context.Context, tenant string, made []*outcome) error {
	note := db.NoteSignedFilesParams{TenantID: tenant, At: pg.Time(s.now())}
	for _, o := range made {
		sum := sha256.Sum256(o.file)
		note.Originals, note.Files, note.Sizes = append(note.Originals, o.row.OriginalSha256), append(note.Files, sum[:]), append(note.Sizes, int64(len(o.file)))
		note.Signatures, note.Credentials, note.Times = append(note.Signatures, o.row.ID), append(note.Credentials, o.by.id), append(note.Times, o.at)
	}
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error { return db.New(tx).NoteSignedFiles(ctx, note) })
	if err != nil {
		return fmt.Errorf("signer: note signed files: %w", err)
	}
	return nil
}

// leftFile is a signed file that was written down and not recorded; whether it came into the store is to be seen.
type leftFile struct {
	ref        blob.Ref
	credential uuid.UUID
	at         time.Time
}

// takeUp takes what an earlier run has left, if it is there and is by the credential that signs now, with the certificate
// that it has now; else the document is signed anew. Of a key at a provider the values are kept, and the same file is made again.
func (s *Service) takeUp(ctx context.Context, o *outcome, content []byte) (bool, error) {
	if o.left == nil || o.by.lent || o.left.credential != o.by.id {
		return false, nil
	}
	file, err := s.blobs.Get(ctx, o.left.ref)
	switch {
	case errors.Is(err, fault.NotFound("BLOB_NOT_FOUND", "")):
		return false, nil
	case err != nil:
		return false, err
	case verifyOutput(file, content, o.by) != nil:
		return false, nil
	}
	o.file, o.at = file, o.left.at
	return true, nil
}

// signOne makes and verifies one signature, in the trace of its invoice.
func (s *Service) signOne(ctx context.Context, o *outcome) {
	ctx, span := telemetry.Tracer().Start(telemetry.Extract(ctx, o.row.Traceparent), "signer.sign")
	defer span.End()
	o.span = span.SpanContext()
	o.err = s.make(ctx, o)
	if o.err != nil {
		span.SetStatus(codes.Error, fault.Of(o.err).Code)
	}
}

func (s *Service) make(ctx context.Context, o *outcome) error {
	content, err := s.blobs.Get(ctx, originalRef(o.row))
	if err != nil {
		return err
	}
	if there, err := s.takeUp(ctx, o, content); there || err != nil {
		return err
	}
	o.at = s.now().UTC().Truncate(time.Second) // signing-time has whole seconds
	if o.by.lent {
		if err := s.borrowForOne(ctx, o, content); err != nil {
			return err
		}
	}
	p7m, err := cades.Sign(ctx, content, o.by.signer, cades.Options{SigningTime: o.at, ReadBack: true})
	if err != nil {
		return fmt.Errorf("signer: %w", err)
	}
	err = verifyOutput(p7m, content, o.by)
	if err != nil {
		return fault.Internal("SIGNATURE_NOT_VERIFIED", "the signature just made does not verify and is thrown away").With(err)
	}
	o.file = p7m
	return nil
}

// secondReaderLimit: go.mozilla.org/pkcs7 holds several copies of a file in memory, so it reads small ones.
const secondReaderLimit = 256 << 10

// verifyOutput reads a signature back before anybody sees it: SdI refuses a file that is not intact with 00102, and an
// archive that is not is worth nothing. Every file is read by our own reader, which does not share the writer's code:
// structure, content, certificate, and the value once. What a file is but for content, digest and value follows from the
// credential, so the second reader has the first file of each kind, every hour: see readyCredential.
func verifyOutput(p7m, content []byte, by *readyCredential) error {
	leaf := by.signer.Chain[0]
	err := by.reader.Attached(p7m, content, leaf)
	if err != nil || by.attached.Load() || len(p7m) > secondReaderLimit {
		return err
	}
	p7, err := pkcs7.Parse(p7m)
	if err != nil {
		return fmt.Errorf("second reader: %w", err)
	}
	if !bytes.Equal(p7.Content, content) {
		return errors.New("second reader: other content")
	}
	signer := p7.GetOnlySigner()
	if signer == nil || !signer.Equal(leaf) {
		return errors.New("second reader: other signer")
	}
	err = p7.Verify()
	if err != nil {
		return fmt.Errorf("second reader: %w", err)
	}
	by.attached.Store(true)
	return nil
}

// record writes the outcomes and what they tell the others, in one transaction. The error is that
// of the documents to be tried again.
func (s *Service) record(ctx context.Context, tenant string, hand []outcome) error {
	var again error
	byID := map[uuid.UUID]*outcome{}
	done := db.RecordSignedParams{At: ptr(pg.Time(s.now()))}
	var failed db.FailPendingParams
	for i := range hand {
		o := &hand[i]
		byID[o.row.ID] = o
		switch {
		case o.err == nil:
			done.Ids = append(done.Ids, o.row.ID)
			done.CredentialIds = append(done.CredentialIds, o.by.id)
			done.Names = append(done.Names, o.by.name)
			done.Hashes = append(done.Hashes, o.ref.SHA256[:])
			done.Sizes = append(done.Sizes, o.ref.Size)
			done.Times = append(done.Times, o.at)
		case fault.Permanent(o.err):
			f := fault.Of(o.err)
			failed.Ids = append(failed.Ids, o.row.ID)
			failed.Codes = append(failed.Codes, f.Code)
			failed.Reasons = append(failed.Reasons, f.Message)
		default:
			again = errors.Join(again, o.err)
		}
	}
	if len(done.Ids)+len(failed.Ids) == 0 {
		return again
	}
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		n, err := s.recordSigned(ctx, tx, done, byID)
		if err != nil {
			return err
		}
		if n < len(done.Ids) && again == nil {
			// Another run was first, or a credential was revoked meanwhile: a look at the rows tells.
			again = fault.Aborted("SIGNATURE_NOT_RECORDED", "%d signatures were not recorded", len(done.Ids)-n)
		}
		return s.recordFailed(ctx, tx, failed, byID)
	})
	if err != nil {
		return fmt.Errorf("signer: record: %w", err)
	}
	return again
}

func (s *Service) recordSigned(ctx context.Context, tx pgx.Tx, done db.RecordSignedParams, byID map[uuid.UUID]*outcome) (int, error) {
	if len(done.Ids) == 0 {
		return 0, nil
	}
	ids, err := db.New(tx).RecordSigned(ctx, done)
	if err != nil {
		return 0, err
	}
	if slices.ContainsFunc(ids, func(id uuid.UUID) bool { return byID[id].by.lent }) {
		if err := db.New(tx).EndOneChallenges(ctx, db.EndOneChallengesParams{Ids: ids, At: done.At}); err != nil {
			return 0, err
		}
	}
	for _, id := range ids {
		o := byID[id]
		err = s.bus.Emit(storyOf(ctx, o), tx, &signv1.DocumentSigned{
			Subject: o.row.Subject, Signature: nameOfSignature(o.row), Format: o.row.Format,
			Original:    blobMessage(originalRef(o.row), o.row.OriginalType),
			Signed:      blobMessage(o.ref, mimeSigned),
			SigningTime: timestamppb.New(o.at), Level: levelOf(o.by.qualified),
		})
		if err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

func (s *Service) recordFailed(ctx context.Context, tx pgx.Tx, failed db.FailPendingParams, byID map[uuid.UUID]*outcome) error {
	if len(failed.Ids) == 0 {
		return nil
	}
	ids, err := db.New(tx).FailPending(ctx, failed)
	if err != nil {
		return err
	}
	for _, id := range ids {
		o := byID[id]
		f := fault.Of(o.err)
		err = s.bus.Emit(storyOf(ctx, o), tx, &signv1.SigningFailed{
			Subject: o.row.Subject, Signature: nameOfSignature(o.row), Code: f.Code, Message: f.Message,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// storyOf is ctx of a transaction with the story of one document: its trace, correlation and cause.
func storyOf(ctx context.Context, o *outcome) context.Context {
	if o.span.IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, o.span)
	} else {
		ctx = telemetry.Extract(ctx, o.row.Traceparent)
	}
	return bus.WithMeta(ctx, bus.Envelope{
		ID: o.row.Causation, Tenant: o.row.TenantID, Correlation: o.row.Correlation, Trace: o.row.Traceparent,
	})
}
