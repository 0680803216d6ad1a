package invoice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/invoice/internal/db"
)

// What is received is committed in groups: whichever comes first.
const (
	groupFiles   = 256
	groupBytes   = 16 << 20
	groupLinger  = 50 * time.Millisecond
	groupWriters = 16      // files written at the same time
	pieceBytes   = 4 << 20 // of an archive
	pieceLinger  = 2 * time.Second
	lastFlush    = 10 * time.Second // what may be spent on saving what a broken upload brought
	comparedPage = 500
)

// upload is one call of CreateInvoices at work.
type upload struct {
	*batches
	n   batchName
	row db.Batch // as of the last commit

	group   []*arrivingFile // received, not yet counted
	bytes   int
	writers *errgroup.Group

	piece []byte // of the archive, after row.ReceivedBytes

	compared []db.BatchFile // a page of files that came before
	parts    *partsReader   // the archive that came before
}

// arrivingFile is a file that was received; ref is known once its bytes are durable.
type arrivingFile struct {
	file *invoicev1.BatchUpload
	ref  blob.Ref
}

type incoming struct {
	req *invoicev1.CreateInvoicesRequest
	err error
}

// CreateInvoices receives a batch. A file counts as received when its bytes and its row are durable; a
// break of the stream loses nothing of that, and the same request id goes on.
//
// Invalid UPLOAD_HEAD_MISSING, UPLOAD_MIXED, UPLOAD_GAP, ARCHIVE_TOO_LARGE, BATCH_EMPTY; Conflict
// REQUEST_ID_REUSED, UPLOAD_DIFFERS (other bytes at the same index or offset), BATCH_CLOSED; Aborted
// UPLOAD_CONCURRENT; NotFound COMPANY_NOT_FOUND.
func (b *batches) CreateInvoices(stream grpc.ClientStreamingServer[invoicev1.CreateInvoicesRequest, invoicev1.Batch]) error {
	ctx := stream.Context()
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) || (err == nil && first.GetHead() == nil) {
		return fault.Invalid("UPLOAD_HEAD_MISSING", "the first message of an upload is its head").WithField("head", "UPLOAD_HEAD_MISSING", "must come first")
	}
	if err != nil {
		return err
	}
	u, err := b.openUpload(ctx, first.GetHead())
	if err != nil {
		return err
	}
	messages := make(chan incoming)
	go func() {
		for {
			req, err := stream.Recv()
			select {
			case messages <- incoming{req, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	err = u.receive(ctx, messages)
	if err != nil {
		// What came before the break stays: the caller finds it counted when it comes back.
		saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
		defer cancel()
		if saveErr := u.flush(saving); saveErr != nil && fault.Of(saveErr).Kind == fault.KindInternal {
			b.log.WarnContext(saving, "the end of a broken upload was not saved", "batch", u.n.String(), "error", saveErr)
		}
		return err
	}
	batch, err := u.complete(ctx)
	if err != nil {
		return err
	}
	return stream.SendAndClose(batch)
}

// openUpload finds the batch of a request id, or makes it.
func (b *batches) openUpload(ctx context.Context, head *invoicev1.BatchHead) (*upload, error) {
	if head.GetKind() == invoicev1.BatchKind_BATCH_KIND_UNSPECIFIED {
		head.Kind = invoicev1.BatchKind_BATCH_KIND_CREATE
	}
	if err := printable("head.display_name", head.GetDisplayName()); err != nil {
		return nil, err
	}
	if _, err := b.companies.get(ctx, head.GetParent()); err != nil {
		return nil, err
	}
	n, err := parentName(head.GetParent())
	if err != nil {
		return nil, err
	}
	id, err := uuid.Parse(head.GetRequestId())
	if err != nil {
		return nil, fault.Invalid("REQUEST_ID_INVALID", "head.request_id: %q is no UUID", head.GetRequestId()).With(err)
	}
	u := &upload{batches: b, n: batchName{n.tenant, n.company, id}}
	u.begin()
	err = b.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) error {
		fresh, err := q(tx).InsertBatch(ctx, db.InsertBatchParams{TenantID: n.tenant, ID: id, CompanyID: n.company,
			Kind: int16(head.GetKind()), DisplayName: head.GetDisplayName(), State: stateUploading, Now: pg.Time(b.now())})
		if err != nil {
			return fmt.Errorf("invoice: insert batch: %w", err)
		}
		if fresh == 1 {
			err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "batch.begin", Resource: u.n.String(), Detail: map[string]string{"kind": head.GetKind().String()}})
			if err != nil {
				return err
			}
		}
		u.row, err = q(tx).GetBatch(ctx, db.GetBatchParams{TenantID: n.tenant, ID: id})
		return err
	})
	if err != nil {
		return nil, err
	}
	if u.row.CompanyID != n.company || u.row.Kind != int16(head.GetKind()) || u.row.DisplayName != head.GetDisplayName() {
		return nil, fault.Conflict("REQUEST_ID_REUSED", "request_id %s belongs to batch %s (%s, %q): use a new id for a new batch",
			id, batchName{n.tenant, u.row.CompanyID, id}, invoicev1.BatchKind(u.row.Kind), u.row.DisplayName).
			WithField("head.request_id", "REUSED", "belongs to another batch")
	}
	return u, nil
}

// begin starts a new group.
func (u *upload) begin() {
	u.group, u.bytes, u.writers = nil, 0, &errgroup.Group{}
	u.writers.SetLimit(groupWriters)
}

// receive takes messages until the caller has said that there are no more.
func (u *upload) receive(ctx context.Context, messages <-chan incoming) error {
	linger := time.NewTimer(0)
	<-linger.C
	defer linger.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-linger.C:
			if err := u.flush(ctx); err != nil {
				return err
			}
		case m := <-messages:
			if errors.Is(m.err, io.EOF) {
				return u.flush(ctx)
			}
			if m.err != nil {
				return m.err
			}
			idle := len(u.group) == 0 && len(u.piece) == 0
			if err := u.take(ctx, m.req); err != nil {
				return err
			}
			switch {
			case len(u.group) >= groupFiles, u.bytes >= groupBytes, len(u.piece) >= pieceBytes:
				linger.Stop()
				if err := u.flush(ctx); err != nil {
					return err
				}
			case idle && len(u.group) > 0:
				linger.Reset(groupLinger)
			case idle && len(u.piece) > 0:
				linger.Reset(pieceLinger)
			}
		}
	}
}

func (u *upload) take(ctx context.Context, req *invoicev1.CreateInvoicesRequest) error {
	switch part := req.GetPart().(type) {
	case *invoicev1.CreateInvoicesRequest_File:
		if u.row.Archive || len(u.piece) > 0 {
			return mixed("an archive in chunks")
		}
		return u.takeFile(ctx, part.File)
	case *invoicev1.CreateInvoicesRequest_Chunk:
		if u.row.ReceivedFiles > 0 || len(u.group) > 0 {
			return mixed("files one by one")
		}
		return u.takeChunk(ctx, part.Chunk)
	}
	return fault.Invalid("UPLOAD_MIXED", "an upload has one head, which comes first: begin another call for another batch")
}

func mixed(what string) error {
	return fault.Invalid("UPLOAD_MIXED", "this batch is %s: send a batch either as files or as one archive", what)
}

func (u *upload) closed() error {
	return fault.Conflict("BATCH_CLOSED", "batch %s is complete or ended (%s) and takes no more: begin another batch", u.n, invoicev1.BatchState(u.row.State))
}

// printable refuses text that no table could keep or no terminal should show.
func printable(field, s string) error {
	if !strings.ContainsFunc(s, unicode.IsControl) {
		return nil
	}
	return fault.Invalid("REQUEST_INVALID", "%s: %q has control characters: leave them out", field, clip(s)).
		WithField(field, "CONTROL_CHARACTER", "has control characters")
}

// takeFile adds a file to the group, or recognises it.
func (u *upload) takeFile(ctx context.Context, f *invoicev1.BatchUpload) error {
	if err := printable("file.external_id", f.GetExternalId()); err != nil {
		return err
	}
	f.FileName = shownName(f.GetFileName())
	next := u.row.ReceivedFiles + int64(len(u.group))
	switch {
	case f.GetIndex() < u.row.ReceivedFiles:
		return u.recognise(ctx, f)
	case f.GetIndex() < next:
		had := u.group[f.GetIndex()-u.row.ReceivedFiles].file
		if had.GetFileName() != f.GetFileName() || had.GetExternalId() != f.GetExternalId() || !bytes.Equal(had.GetContent(), f.GetContent()) {
			return differs(f)
		}
		return nil
	case f.GetIndex() > next:
		return fault.Invalid("UPLOAD_GAP", "file %d (%s) came where file %d was due: send files in order, without a gap", f.GetIndex(), f.GetFileName(), next).
			WithField("file.index", "UPLOAD_GAP", fmt.Sprintf("must be %d", next))
	case u.row.State != stateUploading:
		return u.closed()
	}
	a := &arrivingFile{file: f}
	u.group, u.bytes = append(u.group, a), u.bytes+len(f.GetContent())
	durable := context.WithoutCancel(ctx) // a caller that goes away finds it received when it comes back
	u.writers.Go(func() (err error) {
		a.ref, err = u.blobs.Put(durable, u.n.tenant, f.GetContent())
		return err
	})
	return nil
}

func differs(f *invoicev1.BatchUpload) error {
	message := fmt.Sprintf("file %d (%s) was received before with other bytes, another name or another external_id: begin another batch for another upload", f.GetIndex(), f.GetFileName())
	return fault.Conflict("UPLOAD_DIFFERS", "%s", message).WithField("file.index", "UPLOAD_DIFFERS", message)
}

// recognise compares a file that is sent again with what is there.
func (u *upload) recognise(ctx context.Context, f *invoicev1.BatchUpload) error {
	if len(u.compared) == 0 || f.GetIndex() < u.compared[0].Idx || f.GetIndex() > u.compared[len(u.compared)-1].Idx {
		err := u.db.Tx(ctx, u.n.tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
			u.compared, err = q(tx).ListBatchFiles(ctx, db.ListBatchFilesParams{TenantID: u.n.tenant, BatchID: u.n.id, FromIdx: f.GetIndex(), PageSize: comparedPage})
			return err
		})
		if err != nil {
			return fmt.Errorf("invoice: files of batch %s: %w", u.n.id, err)
		}
	}
	had := u.compared[f.GetIndex()-u.compared[0].Idx]
	if had.FileName != f.GetFileName() || had.ExternalID != f.GetExternalId() || had.Uri != blob.Of(u.n.tenant, f.GetContent()).URI() {
		return differs(f)
	}
	return nil
}

// takeChunk adds bytes to the archive, or recognises them.
func (u *upload) takeChunk(ctx context.Context, c *invoicev1.ArchiveChunk) error {
	content, at := c.GetContent(), c.GetOffset()
	next := u.row.ReceivedBytes + int64(len(u.piece))
	if at > next {
		return fault.Invalid("UPLOAD_GAP", "bytes at %d came where those at %d were due: send the archive in order, without a gap", at, next).
			WithField("chunk.offset", "UPLOAD_GAP", fmt.Sprintf("must be %d", next))
	}
	if at < next {
		again := content[:min(int64(len(content)), next-at)]
		if err := u.recogniseBytes(ctx, again, at); err != nil {
			return err
		}
		content = content[len(again):]
	}
	switch {
	case len(content) == 0:
		return nil
	case u.row.State != stateUploading:
		return u.closed()
	case next+int64(len(content)) > maxArchive:
		return fault.Invalid("ARCHIVE_TOO_LARGE", "the archive has more than %d bytes: split it", maxArchive)
	}
	u.piece = append(u.piece, content...)
	return nil
}

func (u *upload) recogniseBytes(ctx context.Context, again []byte, at int64) error {
	if u.parts == nil || u.parts.size < u.row.ReceivedBytes {
		parts, err := u.readParts(ctx, u.n)
		if err != nil {
			return err
		}
		u.parts = parts
	}
	had := make([]byte, len(again))
	n := 0
	if at < u.row.ReceivedBytes {
		var err error
		n, err = u.parts.ReadAt(had[:min(int64(len(had)), u.row.ReceivedBytes-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	if n < len(had) {
		copy(had[n:], u.piece[at+int64(n)-u.row.ReceivedBytes:])
	}
	if !bytes.Equal(had, again) {
		message := fmt.Sprintf("the %d bytes at offset %d were received before with other values: begin another batch for another archive", len(again), at)
		return fault.Conflict("UPLOAD_DIFFERS", "%s", message).WithField("chunk.offset", "UPLOAD_DIFFERS", message)
	}
	return nil
}

// readParts opens the archive as far as it was received.
func (b *batches) readParts(ctx context.Context, n batchName) (*partsReader, error) {
	var parts []db.ListBatchPartsRow
	err := b.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		parts, err = q(tx).ListBatchParts(ctx, db.ListBatchPartsParams{TenantID: n.tenant, BatchID: n.id})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("invoice: pieces of batch %s: %w", n.id, err)
	}
	return newPartsReader(ctx, b.blobs, parts)
}

// flush makes what was received durable and counts it, in one transaction.
func (u *upload) flush(ctx context.Context) error {
	if len(u.piece) > 0 {
		return u.flushPiece(ctx)
	}
	if len(u.group) == 0 {
		return nil
	}
	if err := u.writers.Wait(); err != nil {
		u.begin()
		return err
	}
	group, size := u.group, u.bytes
	u.begin()
	p := db.InsertBatchFilesParams{TenantID: u.n.tenant, BatchID: u.n.id}
	for _, a := range group {
		p.Idxs, p.FileNames = append(p.Idxs, a.file.GetIndex()), append(p.FileNames, a.file.GetFileName())
		p.Sizes, p.ExternalIds = append(p.Sizes, int64(len(a.file.GetContent()))), append(p.ExternalIds, a.file.GetExternalId())
		p.Uris, p.Places, p.States = append(p.Uris, a.ref.URI()), append(p.Places, 0), append(p.States, fileWaiting)
		p.Codes, p.Messages = append(p.Codes, ""), append(p.Messages, "")
	}
	return u.locked(ctx, func(ctx context.Context, tx pgx.Tx, row *db.Batch) error {
		if row.State != stateUploading {
			return u.closed()
		}
		n, err := q(tx).ReceiveFiles(ctx, db.ReceiveFilesParams{TenantID: u.n.tenant, ID: u.n.id, Uploading: stateUploading,
			Before: u.row.ReceivedFiles, Added: int64(len(group)), Bytes: int64(size), Now: pg.Time(u.now())})
		if err != nil {
			return fmt.Errorf("invoice: count what was received: %w", err)
		}
		if n == 0 {
			return errConcurrent
		}
		if err := q(tx).InsertBatchFiles(ctx, p); err != nil {
			return fmt.Errorf("invoice: insert files of batch: %w", err)
		}
		return u.promise(ctx, tx, row)
	})
}

var errConcurrent = fault.Aborted("UPLOAD_CONCURRENT", "another call uploads to this batch: let one of them end, and go on where GetBatch says")

func (u *upload) flushPiece(ctx context.Context) error {
	piece := u.piece
	u.piece = nil
	ref, err := u.blobs.Put(ctx, u.n.tenant, piece)
	if err != nil {
		return err
	}
	return u.locked(ctx, func(ctx context.Context, tx pgx.Tx, row *db.Batch) error {
		if row.State != stateUploading {
			return u.closed()
		}
		n, err := q(tx).ReceivePart(ctx, db.ReceivePartParams{TenantID: u.n.tenant, ID: u.n.id, Uploading: stateUploading,
			Before: u.row.ReceivedBytes, Bytes: int64(len(piece)), Now: pg.Time(u.now())})
		if err != nil {
			return fmt.Errorf("invoice: count what was received: %w", err)
		}
		if n == 0 {
			return errConcurrent
		}
		return q(tx).InsertBatchPart(ctx, db.InsertBatchPartParams{TenantID: u.n.tenant, BatchID: u.n.id, Start: u.row.ReceivedBytes, Size: int64(len(piece)), Uri: ref.URI()})
	})
}

// locked runs fn in a transaction that holds the batch, and remembers the row as it is afterwards.
func (u *upload) locked(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx, row *db.Batch) error) error {
	var after db.Batch
	err := u.db.Tx(ctx, u.n.tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).LockBatch(ctx, db.LockBatchParams{TenantID: u.n.tenant, ID: u.n.id})
		if err != nil {
			return fmt.Errorf("invoice: lock batch %s: %w", u.n.id, err)
		}
		if err := fn(ctx, tx, &row); err != nil {
			return err
		}
		after, err = q(tx).GetBatch(ctx, db.GetBatchParams{TenantID: u.n.tenant, ID: u.n.id})
		return err
	})
	if err == nil {
		u.row = after
	}
	return err
}

// promise sees to it that a job works on the batch: one at a time.
func (b *batches) promise(ctx context.Context, tx pgx.Tx, row *db.Batch) error {
	if row.Working {
		return nil
	}
	return b.jobs.InsertTx(ctx, tx, workArgs{Tenant: row.TenantID, Batch: row.ID}, nil)
}

// complete ends the upload. A repeat of a complete upload gives the batch as it stands.
func (u *upload) complete(ctx context.Context) (*invoicev1.Batch, error) {
	if u.row.ReceivedFiles == 0 && u.row.ReceivedBytes == 0 {
		return nil, fault.Invalid("BATCH_EMPTY", "the upload holds nothing: send files, or an archive in chunks")
	}
	err := u.locked(ctx, func(ctx context.Context, tx pgx.Tx, row *db.Batch) error {
		if row.State != stateUploading {
			return nil
		}
		err := q(tx).SetBatchState(ctx, db.SetBatchStateParams{TenantID: u.n.tenant, ID: u.n.id, State: stateRunning, Working: true, Now: pg.Time(u.now())})
		if err != nil {
			return fmt.Errorf("invoice: batch %s runs: %w", u.n.id, err)
		}
		return u.promise(ctx, tx, row)
	})
	if err != nil {
		return nil, err
	}
	return presentBatch(&u.row), nil
}
