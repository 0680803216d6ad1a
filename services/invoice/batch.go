package invoice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/invoice/internal/db"
)

// batches answers invoicev1.BatchService with the means of the service.
type batches struct {
	invoicev1.UnimplementedBatchServiceServer
	*Service

	jobs *run.Jobs
}

// registerBatches says what bulk work answers and does by itself.
func (s *Service) registerBatches(h *run.Host) *batches {
	b := &batches{Service: s, jobs: h.Jobs}
	invoicev1.RegisterBatchServiceServer(h.RPC, b)
	run.Work(h, run.WorkOptions{Workers: 2, Timeout: workTimeout}, b.work)
	return b
}

// States of batches and files, short.
const (
	stateUploading = int16(invoicev1.BatchState_BATCH_STATE_UPLOADING)
	stateRunning   = int16(invoicev1.BatchState_BATCH_STATE_RUNNING)
	stateDone      = int16(invoicev1.BatchState_BATCH_STATE_DONE)
	stateCancelled = int16(invoicev1.BatchState_BATCH_STATE_CANCELLED)
	stateFailed    = int16(invoicev1.BatchState_BATCH_STATE_FAILED)

	fileWaiting   = int16(invoicev1.BatchFileState_BATCH_FILE_STATE_WAITING)
	fileCreated   = int16(invoicev1.BatchFileState_BATCH_FILE_STATE_CREATED)
	fileRefused   = int16(invoicev1.BatchFileState_BATCH_FILE_STATE_REFUSED)
	fileDuplicate = int16(invoicev1.BatchFileState_BATCH_FILE_STATE_DUPLICATE)
	fileCancelled = int16(invoicev1.BatchFileState_BATCH_FILE_STATE_CANCELLED)
	fileIgnored   = int16(invoicev1.BatchFileState_BATCH_FILE_STATE_IGNORED)
)

// batchName is the resource name of a batch in parts.
type batchName struct {
	tenant, company string
	id              uuid.UUID
}

func (n batchName) String() string {
	return "tenants/" + n.tenant + "/companies/" + n.company + "/batches/" + n.id.String()
}

func batchMissing(name string) *fault.Fault {
	return fault.NotFound("BATCH_NOT_FOUND", "there is no batch %s", name)
}

// parseBatchName reads tenants/{tenant}/companies/{company}/batches/{batch}; the request was validated
// against it. An id that is none names nothing.
func parseBatchName(s string) (batchName, error) {
	p := strings.Split(s, "/")
	if len(p) != 6 {
		return batchName{}, batchMissing(s)
	}
	id, err := uuid.Parse(p[5])
	if err != nil || id.String() != strings.ToLower(p[5]) {
		return batchName{}, batchMissing(s)
	}
	return batchName{tenant: p[1], company: p[3], id: id}, nil
}

// readBatch reads the row of a name; company - means any.
func readBatch(ctx context.Context, tx pgx.Tx, n batchName) (db.Batch, error) {
	row, err := q(tx).GetBatch(ctx, db.GetBatchParams{TenantID: n.tenant, ID: n.id})
	if errors.Is(err, pgx.ErrNoRows) || (err == nil && n.company != "-" && row.CompanyID != n.company) {
		return row, batchMissing(n.String())
	}
	if err != nil {
		return row, fmt.Errorf("invoice: read batch %s: %w", n.id, err)
	}
	return row, nil
}

func waitingOf(row *db.Batch) int64 {
	return row.Files - row.Created - row.Refused - row.Duplicates - row.Cancelled - row.Ignored
}

func presentBatch(row *db.Batch) *invoicev1.Batch {
	return &invoicev1.Batch{
		Name: batchName{row.TenantID, row.CompanyID, row.ID}.String(), Kind: invoicev1.BatchKind(row.Kind), DisplayName: row.DisplayName,
		State: invoicev1.BatchState(row.State), Failure: row.Failure, ReceivedFiles: row.ReceivedFiles, ReceivedBytes: row.ReceivedBytes,
		Files: row.Files, Waiting: waitingOf(row), Created: row.Created, Refused: row.Refused, Duplicates: row.Duplicates,
		Cancelled: row.Cancelled, Ignored: row.Ignored,
		CreateTime: timestamppb.New(row.CreateTime), UpdateTime: timestamppb.New(row.UpdateTime),
	}
}

// GetBatch reads a batch and its progress. NotFound BATCH_NOT_FOUND.
func (b *batches) GetBatch(ctx context.Context, req *invoicev1.GetBatchRequest) (*invoicev1.Batch, error) {
	n, err := parseBatchName(req.GetName())
	if err != nil {
		return nil, err
	}
	var row db.Batch
	err = b.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		row, err = readBatch(ctx, tx, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	return presentBatch(&row), nil
}

// ListBatches reads the batches of a company, newest first; company - means all of the tenant.
func (b *batches) ListBatches(ctx context.Context, req *invoicev1.ListBatchesRequest) (*invoicev1.ListBatchesResponse, error) {
	n, err := parentName(req.GetParent())
	if err != nil {
		return nil, err
	}
	p := db.ListBatchesParams{TenantID: n.tenant, PageSize: pageSize(req.GetPageSize()) + 1}
	if n.company != "-" {
		p.CompanyID = &n.company
	}
	hash := pg.FilterHash("batches", req.GetParent())
	var before int64
	found, err := pg.DecodePageToken(req.GetPageToken(), hash, &before)
	if err != nil {
		return nil, err
	}
	if found {
		p.BeforeSeq = &before
	}
	var rows []db.Batch
	err = b.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		rows, err = q(tx).ListBatches(ctx, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("invoice: list batches: %w", err)
	}
	resp := &invoicev1.ListBatchesResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, p.PageSize-1, hash, func(r db.Batch) []any { return []any{r.Seq} })
	if err != nil {
		return nil, err
	}
	for i := range rows {
		resp.Batches = append(resp.Batches, presentBatch(&rows[i]))
	}
	return resp, nil
}

// ListBatchFiles reads the files of a batch in the order of the upload, with the outcome of each.
func (b *batches) ListBatchFiles(ctx context.Context, req *invoicev1.ListBatchFilesRequest) (*invoicev1.ListBatchFilesResponse, error) {
	n, err := parseBatchName(req.GetParent())
	if err != nil {
		return nil, err
	}
	p := db.ListBatchFilesParams{TenantID: n.tenant, BatchID: n.id, PageSize: pageSize(req.GetPageSize()) + 1}
	if req.GetState() != 0 {
		state := int16(req.GetState()) //nolint:gosec // an enum, validated
		p.State = &state
	}
	hash := pg.FilterHash("batch-files", req.GetParent(), req.GetState().String())
	if _, err := pg.DecodePageToken(req.GetPageToken(), hash, &p.FromIdx); err != nil {
		return nil, err
	}
	var rows []db.BatchFile
	err = b.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		if _, err = readBatch(ctx, tx, n); err != nil {
			return err
		}
		rows, err = q(tx).ListBatchFiles(ctx, p)
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &invoicev1.ListBatchFilesResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, p.PageSize-1, hash, func(r db.BatchFile) []any { return []any{r.Idx + 1} }) // the query has it from there on
	if err != nil {
		return nil, err
	}
	for i := range rows {
		f, err := presentBatchFile(n.tenant, &rows[i])
		if err != nil {
			return nil, err
		}
		resp.Files = append(resp.Files, f)
	}
	return resp, nil
}

func presentBatchFile(tenant string, row *db.BatchFile) (*invoicev1.BatchFile, error) {
	f := &invoicev1.BatchFile{Index: row.Idx, FileName: row.FileName, Size: row.Size, State: invoicev1.BatchFileState(row.State),
		Code: row.Code, Message: row.Message, ExternalId: row.ExternalID}
	if row.InvoiceID != nil {
		f.Invoice = name{tenant, row.InvoiceCompany, *row.InvoiceID}.String()
	}
	var err error
	f.Violations, err = readViolations(row.Violations)
	if err != nil {
		return nil, fmt.Errorf("invoice: violations of file %d of batch %s: %w", row.Idx, row.BatchID, err)
	}
	return f, nil
}

func readViolations(raw []byte) ([]*invoicev1.Violation, error) {
	if len(raw) <= len("[]") { // the usual case, worth no decoder
		return nil, nil
	}
	var list []violation
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	out := make([]*invoicev1.Violation, 0, len(list))
	for _, v := range list {
		out = append(out, v.present())
	}
	return out, nil
}

// CancelBatch ends a batch: files without an outcome get CANCELLED. A batch that has ended stays as it is.
func (b *batches) CancelBatch(ctx context.Context, req *invoicev1.CancelBatchRequest) (*invoicev1.Batch, error) {
	n, err := parseBatchName(req.GetName())
	if err != nil {
		return nil, err
	}
	var row db.Batch
	err = b.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := readBatch(ctx, tx, n); err != nil {
			return err
		}
		// Whoever changes files holds the batch: none can come in, or get an outcome, meanwhile.
		row, err = q(tx).LockBatch(ctx, db.LockBatchParams{TenantID: n.tenant, ID: n.id})
		if err != nil {
			return fmt.Errorf("invoice: lock batch %s: %w", n.id, err)
		}
		if row.State != stateUploading && row.State != stateRunning {
			return nil
		}
		cancelled, err := q(tx).CancelBatchFiles(ctx, db.CancelBatchFilesParams{TenantID: n.tenant, BatchID: n.id,
			Cancelled: fileCancelled, Waiting: fileWaiting, Message: "the batch was cancelled before this file was worked on"})
		if err != nil {
			return fmt.Errorf("invoice: cancel files of batch %s: %w", n.id, err)
		}
		now := pg.Time(b.now())
		err = q(tx).CountBatchFiles(ctx, db.CountBatchFilesParams{TenantID: n.tenant, ID: n.id, Cancelled: cancelled, Now: now})
		if err != nil {
			return fmt.Errorf("invoice: count files of batch %s: %w", n.id, err)
		}
		err = q(tx).SetBatchState(ctx, db.SetBatchStateParams{TenantID: n.tenant, ID: n.id, State: stateCancelled, Now: now})
		if err != nil {
			return fmt.Errorf("invoice: cancel batch %s: %w", n.id, err)
		}
		err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "batch.cancel", Resource: batchName{row.TenantID, row.CompanyID, row.ID}.String()})
		if err != nil {
			return err
		}
		row, err = readBatch(ctx, tx, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	return presentBatch(&row), nil
}
