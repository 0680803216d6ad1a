package conservation

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/telemetry"
)

// transfer answers TransferService.
type transfer struct {
	conservationv1.UnimplementedTransferServiceServer

	s *Service
}

// wireTransfer is the export of everything.
func (s *Service) wireTransfer(h *run.Host) {
	conservationv1.RegisterTransferServiceServer(h.RPC, transfer{s: s})
	run.Work(h, run.WorkOptions{Queue: "export", Workers: 1, Timeout: checkTime}, s.buildExport)
}

func sha256Of(raw []byte) []byte {
	sum := sha256.Sum256(raw)
	return sum[:]
}

func exportMessage(row db.Export, totals db.ExportTotalsRow) *conservationv1.Export {
	return &conservationv1.Export{
		Name: exportName(row.TenantID, row.ID), State: conservationv1.ExportState(conservationv1.ExportState_value["EXPORT_STATE_"+row.State]),
		PackageCount: int32(len(row.Packages)), UnitCount: row.UnitCount, FileCount: totals.Files, Size: totals.Bytes, //nolint:gosec // one list
		CreateTime: timestamppb.New(row.AskedAt), ReadyTime: timeMessage(row.ReadyAt), LastError: row.LastError,
	}
}

// CreateExport fixes what goes in and starts the building. The same request_id gives the same export.
func (a transfer) CreateExport(ctx context.Context, req *conservationv1.CreateExportRequest) (*conservationv1.Export, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.Export{}
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, conservationv1.TransferService_CreateExport_FullMethodName, req.GetRequestId(), req, resp, func() error {
			m, err := a.order(ctx, tx, tenant)
			if err == nil {
				proto.Merge(resp, m)
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func (a transfer) order(ctx context.Context, tx pgx.Tx, tenant string) (*conservationv1.Export, error) {
	q := db.New(tx)
	err := q.LockDisposals(ctx, tenant) // what is handed over is not destroyed in the meantime
	if err != nil {
		return nil, err
	}
	sealed, err := q.SealedPackages(ctx, tenant)
	if err != nil {
		return nil, err
	}
	waiting, err := q.UnsealedUnits(ctx, tenant)
	if err != nil {
		return nil, err
	}
	if len(sealed)+len(waiting) == 0 {
		return nil, fault.Precondition("EXPORT_EMPTY", "the archive holds nothing of tenants/%s", tenant)
	}
	id, err := pg.NewID()
	if err != nil {
		return nil, err
	}
	p := db.InsertExportParams{ID: id, TenantID: tenant, Packages: []uuid.UUID{}, Waiting: waiting, UnitCount: int64(len(waiting)), AskedBy: actor(ctx), AskedAt: pg.Time(a.s.now())}
	if waiting == nil {
		p.Waiting = []uuid.UUID{}
	}
	for _, s := range sealed {
		p.Packages = append(p.Packages, s.ID)
		p.UnitCount += int64(s.UnitCount)
	}
	err = q.InsertExport(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("conservation: insert export: %w", err)
	}
	err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "export.create", Resource: exportName(tenant, id), Detail: map[string]string{"packages": strconv.Itoa(len(p.Packages)), "units": strconv.FormatInt(p.UnitCount, 10)}})
	if err != nil {
		return nil, err
	}
	err = a.s.jobs.InsertTx(ctx, tx, exportArgs{Tenant: tenant, Export: id}, nil)
	if err != nil {
		return nil, err
	}
	row, err := q.GetExport(ctx, db.GetExportParams{TenantID: tenant, ID: id})
	return exportMessage(row, db.ExportTotalsRow{}), err
}

func (a transfer) byName(ctx context.Context, name string) (db.Export, error) {
	tenant, id, err := parseName("name", name, "exports", fault.NotFound("EXPORT_NOT_FOUND", "there is no export %s", name))
	if err != nil {
		return db.Export{}, err
	}
	return a.s.export(ctx, tenant, id)
}

// GetExport reads one.
func (a transfer) GetExport(ctx context.Context, req *conservationv1.GetExportRequest) (*conservationv1.Export, error) {
	row, err := a.byName(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	var totals db.ExportTotalsRow
	err = a.s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		totals, err = db.New(tx).ExportTotals(ctx, row.ID)
		return err
	})
	return exportMessage(row, totals), err
}

// ListExports lists them, newest first.
func (a transfer) ListExports(ctx context.Context, req *conservationv1.ListExportsRequest) (*conservationv1.ListExportsResponse, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ListExportsResponse{}
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		rows, err := q.ListExports(ctx, tenant)
		for i := 0; err == nil && i < len(rows); i++ {
			var totals db.ExportTotalsRow
			totals, err = q.ExportTotals(ctx, rows[i].ID)
			resp.Exports = append(resp.Exports, exportMessage(rows[i], totals))
		}
		return err
	})
	return resp, err
}

func notExported(row db.Export) error {
	return fault.Precondition("EXPORT_NOT_READY", "the export is %s: follow it with GetExport", row.State)
}

// ListExportFiles lists the files of an export.
func (a transfer) ListExportFiles(ctx context.Context, req *conservationv1.ListExportFilesRequest) (*conservationv1.ListExportFilesResponse, error) {
	row, err := a.byName(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	if row.State != "READY" {
		return nil, notExported(row)
	}
	size, after, filter := pageSize(req.GetPageSize()), "", pg.FilterHash("export files", row.ID.String())
	_, err = pg.DecodePageToken(req.GetPageToken(), filter, &after)
	if err != nil {
		return nil, err
	}
	var rows []db.ExportFile
	err = a.s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).ExportFiles(ctx, db.ExportFilesParams{Export: row.ID, After: after, Page: int32(size + 1)}) //nolint:gosec // at most 1001
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ListExportFilesResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ExportFile) []any { return []any{r.Path} })
	if err != nil {
		return nil, err
	}
	for _, f := range rows {
		resp.Files = append(resp.Files, &conservationv1.ExportFile{Path: f.Path, Size: f.Size, Sha256: f.Sha256})
	}
	return resp, nil
}

// DownloadExportFile streams one file from an offset. Its digest is checked on the way where it is read: damage ends the stream.
func (a transfer) DownloadExportFile(req *conservationv1.DownloadExportFileRequest, stream grpc.ServerStreamingServer[conservationv1.DownloadExportFileResponse]) error {
	ctx := stream.Context()
	row, err := a.byName(ctx, req.GetName())
	if err != nil {
		return err
	}
	if row.State != "READY" {
		return notExported(row)
	}
	var f db.ExportFile
	err = a.s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		f, err = db.New(tx).ExportFile(ctx, db.ExportFileParams{Export: row.ID, Path: req.GetPath()})
		return err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fault.NotFound("EXPORT_FILE_NOT_FOUND", "the export has no file %q", req.GetPath())
	case err != nil:
		return err
	case req.GetOffset() > f.Size:
		return fault.Invalid("OFFSET_INVALID", "offset: %d is behind the end of the file, %d", req.GetOffset(), f.Size)
	}
	r, err := a.open(ctx, f)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.CopyN(io.Discard, r, req.GetOffset()) // read and not sought: the digest is over the whole
	if err != nil {
		return err
	}
	return chunks(r, func(part []byte) error { return stream.Send(&conservationv1.DownloadExportFileResponse{Chunk: part}) })
}

func (a transfer) open(ctx context.Context, f db.ExportFile) (io.ReadCloser, error) {
	if f.ObjectID == nil {
		return a.s.blobs.Open(ctx, refOf(f.TenantID, f.Sha256, &f.Size))
	}
	o, err := a.s.object(ctx, f.TenantID, *f.ObjectID)
	if err != nil {
		return nil, err
	}
	return a.s.replicas.open(ctx, o)
}
