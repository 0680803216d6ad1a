package conservation

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/telemetry"
)

// deposits answers DepositService.
type deposits struct {
	conservationv1.UnimplementedDepositServiceServer

	s *Service
}

// CreateDeposit receives one file and judges it. What came before a break of the stream stays.
func (a deposits) CreateDeposit(stream grpc.ClientStreamingServer[conservationv1.CreateDepositRequest, conservationv1.Deposit]) error {
	ctx := stream.Context()
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) || (err == nil && first.GetHead() == nil) {
		return fault.Invalid("UPLOAD_HEAD_MISSING", "the first message of an upload is its head").WithField("head", "UPLOAD_HEAD_MISSING", "must come first")
	}
	if err != nil {
		return err
	}
	tenant, err := tenantOf(first.GetHead().GetParent())
	if err != nil {
		return err
	}
	next := func() (*conservationv1.DepositChunk, error) {
		m, err := stream.Recv()
		if err == nil && m.GetChunk() == nil {
			err = fault.Invalid("UPLOAD_MIXED", "an upload has one head, which comes first")
		}
		return m.GetChunk(), err
	}
	if first.GetHead().GetValidateOnly() {
		m, err := a.judgeOnly(ctx, tenant, first.GetHead(), next)
		if err != nil {
			return err
		}
		return stream.SendAndClose(m)
	}
	row, err := a.s.openReceiving(ctx, tenant, actor(ctx), first.GetHead())
	if err != nil {
		return err
	}
	if row.State == "RECEIVING" {
		row, err = a.receive(ctx, row, next)
		if err != nil {
			return err
		}
	}
	m, err := a.message(ctx, row)
	if err != nil {
		return err
	}
	return stream.SendAndClose(m)
}

// judgeOnly says what would become of an upload, and keeps nothing of it.
func (a deposits) judgeOnly(ctx context.Context, tenant string, head *conservationv1.DepositHead, next func() (*conservationv1.DepositChunk, error)) (*conservationv1.Deposit, error) {
	row, err := a.s.readHead(tenant, actor(ctx), head)
	if err != nil {
		return nil, err
	}
	contested, err := a.s.foreseen(ctx, row)
	if err != nil {
		return nil, err
	}
	done, err := a.s.holdBytes(ctx, a.s.tried, row.Size) // all of it is held while it comes
	if err != nil {
		return nil, err
	}
	defer done()
	r := &receiving{s: a.s, row: row, sum: sha256.New(), dry: true}
	err = r.receiveAll(ctx, next)
	if err != nil {
		return nil, err
	}
	if r.at < row.Size {
		return nil, fault.Invalid("UPLOAD_INCOMPLETE", "%d of %d bytes came: what is only judged must come whole", r.at, row.Size)
	}
	j, err := r.judge(ctx, r.piece.Bytes())
	if err != nil {
		return nil, err
	}
	m := &conservationv1.Deposit{
		Key: row.ClientKey, State: conservationv1.DepositState_DEPOSIT_STATE_ACCEPTED, FileName: row.FileName, Size: row.Size, ReceivedBytes: r.at, Sha256: row.Sha256,
		Class: row.Class, FiscalYear: row.FiscalYear, Format: j.finding.format.name, Verification: j.verification,
	}
	for _, p := range j.problems {
		m.State = conservationv1.DepositState_DEPOSIT_STATE_REFUSED
		m.Problems = append(m.Problems, &conservationv1.DepositProblem{Code: p.Code, Message: p.Message})
	}
	if contested != "" && len(m.GetProblems()) == 0 {
		m.State = conservationv1.DepositState_DEPOSIT_STATE_CONFLICT
		m.Problems = append(m.Problems, &conservationv1.DepositProblem{Code: problemConflict, Message: contested})
	}
	return m, nil
}

func (a deposits) receive(ctx context.Context, row db.Deposit, next func() (*conservationv1.DepositChunk, error)) (db.Deposit, error) {
	r := &receiving{s: a.s, row: row}
	err := r.resume(ctx)
	if err != nil {
		return row, err
	}
	err = r.receiveAll(ctx, next)
	if err != nil {
		saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastPiece)
		defer cancel()
		if saveErr := r.flush(saving); saveErr != nil && fault.Of(saveErr).Kind == fault.KindInternal {
			a.s.log.WarnContext(saving, "the end of a broken upload was not saved", "deposit", row.ID, "error", saveErr)
		}
		return row, err
	}
	if r.at < row.Size {
		return a.s.deposit(ctx, row.TenantID, row.ID)
	}
	return r.complete(ctx)
}

func (a deposits) message(ctx context.Context, row db.Deposit) (*conservationv1.Deposit, error) {
	m := &conservationv1.Deposit{
		Name: depositName(row.TenantID, row.ID), Key: row.ClientKey, Kind: conservationv1.DepositKind(conservationv1.DepositKind_value["DEPOSIT_KIND_"+row.Kind]),
		State: conservationv1.DepositState(conservationv1.DepositState_value["DEPOSIT_STATE_"+row.State]), FileName: row.FileName, Size: row.Size, ReceivedBytes: row.Received,
		Sha256: row.Sha256, Class: row.Class, FiscalYear: row.FiscalYear, Format: row.Format, CreateTime: timestamppb.New(row.CreatedAt),
		EndTime: timeMessage(row.EndedAt), ReportTime: timeMessage(row.StampedAt), Verification: row.Verification,
	}
	if row.UnitID != nil {
		m.Unit = unitName(row.TenantID, *row.UnitID)
	}
	var problems []depositProblem
	err := json.Unmarshal(row.Problems, &problems)
	if err != nil {
		return nil, fmt.Errorf("conservation: problems of deposit %s: %w", row.ID, err)
	}
	for _, p := range problems {
		m.Problems = append(m.Problems, &conservationv1.DepositProblem{Code: p.Code, Message: p.Message})
	}
	if row.State == "CONFLICT" {
		m.Problems = append(m.Problems, &conservationv1.DepositProblem{Code: problemConflict, Message: row.Reason})
	}
	if row.State == "RECEIVING" || row.State == "REFUSED" {
		err = a.s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			m.AttemptsLeft, err = a.s.attemptsLeft(ctx, db.New(tx), row)
			return err
		})
	}
	return m, err
}

// OpenDeposit tells what is there of a key.
func (a deposits) OpenDeposit(ctx context.Context, req *conservationv1.OpenDepositRequest) (*conservationv1.Deposit, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	var row db.Deposit
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err = db.New(tx).LastDeposit(ctx, db.LastDepositParams{TenantID: tenant, ClientKey: req.GetKey()})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fault.NotFound("DEPOSIT_NOT_FOUND", "nothing came under key %q", req.GetKey())
	}
	if err != nil {
		return nil, err
	}
	return a.message(ctx, row)
}

// GetDeposit reads one.
func (a deposits) GetDeposit(ctx context.Context, req *conservationv1.GetDepositRequest) (*conservationv1.Deposit, error) {
	row, err := a.s.depositByName(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return a.message(ctx, row)
}

func (s *Service) depositByName(ctx context.Context, name string) (db.Deposit, error) {
	tenant, id, err := parseName("name", name, "deposits", noDeposit(name))
	if err != nil {
		return db.Deposit{}, err
	}
	return s.deposit(ctx, tenant, id)
}

// ListDeposits lists them, newest first.
func (a deposits) ListDeposits(ctx context.Context, req *conservationv1.ListDepositsRequest) (*conservationv1.ListDepositsResponse, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	state := ""
	if req.GetState() != conservationv1.DepositState_DEPOSIT_STATE_UNSPECIFIED {
		state = strings.TrimPrefix(req.GetState().String(), "DEPOSIT_STATE_")
	}
	size, before, filter := pageSize(req.GetPageSize()), lastID, pg.FilterHash("deposits", tenant, state)
	_, err = pg.DecodePageToken(req.GetPageToken(), filter, &before)
	if err != nil {
		return nil, err
	}
	var rows []db.Deposit
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).ListDeposits(ctx, db.ListDepositsParams{TenantID: tenant, Before: before, State: state, Page: int32(size + 1)}) //nolint:gosec // at most 1001
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ListDepositsResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.Deposit) []any { return []any{r.ID} })
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		m, err := a.message(ctx, row)
		if err != nil {
			return nil, err
		}
		resp.Deposits = append(resp.Deposits, m)
	}
	return resp, nil
}

// ListFormats tells what is admitted.
func (a deposits) ListFormats(context.Context, *conservationv1.ListFormatsRequest) (*conservationv1.ListFormatsResponse, error) {
	resp := &conservationv1.ListFormatsResponse{}
	for _, f := range formats {
		resp.Formats = append(resp.Formats, &conservationv1.Format{Name: f.name, MediaType: f.media, Extensions: f.extensions, Admitted: f.admitted, Note: f.note})
	}
	return resp, nil
}

func conflictName(tenant string, id uuid.UUID) string {
	return "tenants/" + tenant + "/conflicts/" + id.String()
}

// ListConflicts lists deposits whose key holds other bytes, resolved ones too, and events that were parked for the same reason.
func (a deposits) ListConflicts(ctx context.Context, req *conservationv1.ListConflictsRequest) (*conservationv1.ListConflictsResponse, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ListConflictsResponse{}
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListConflictDeposits(ctx, tenant)
		for i := 0; err == nil && i < len(rows); i++ {
			var m *conservationv1.Conflict
			m, err = conflictMessage(ctx, tx, rows[i])
			resp.Conflicts = append(resp.Conflicts, m)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	parked, err := a.s.parkedConflicts(ctx, tenant)
	for _, p := range parked {
		resp.Conflicts = append(resp.Conflicts, &conservationv1.Conflict{
			Name: conflictName(tenant, p.ID), Key: p.Correlation, Reason: p.Reason, CreateTime: timestamppb.New(p.ParkedAt),
		})
	}
	return resp, err
}

func (s *Service) parkedConflicts(ctx context.Context, tenant string) ([]bus.Parked, error) {
	var list []bus.Parked
	for token := ""; ; {
		page, next, err := s.bus.ListParked(ctx, bus.Filter{Tenant: tenant, Kind: bus.KindEvent, PageSize: 1000, PageToken: token})
		if err != nil {
			return nil, err
		}
		for _, p := range page {
			if p.Code == codeConflict {
				list = append(list, p)
			}
		}
		if next == "" || len(list) >= 1000 {
			return list, nil
		}
		token = next
	}
}

func conflictMessage(ctx context.Context, tx pgx.Tx, row db.Deposit) (*conservationv1.Conflict, error) {
	m := &conservationv1.Conflict{
		Name: conflictName(row.TenantID, row.ID), Key: row.ClientKey, OfferedSha256: row.Sha256, Reason: row.Reason, CreateTime: timestamppb.New(row.CreatedAt),
		Resolution: conservationv1.ConflictResolution(conservationv1.ConflictResolution_value["CONFLICT_RESOLUTION_"+row.Resolution]), ResolvedBy: row.ResolvedBy,
		Deposit: depositName(row.TenantID, row.ID),
	}
	held, err := db.New(tx).HeldDeposit(ctx, db.HeldDepositParams{TenantID: row.TenantID, ClientKey: row.ClientKey})
	if errors.Is(err, pgx.ErrNoRows) { // it was destroyed in the meantime
		return m, nil
	}
	if err == nil {
		m.HeldSha256, m.Unit = held.Sha256, unitName(row.TenantID, *held.UnitID)
	}
	return m, err
}

// ResolveConflict ends one. Nothing that is held is replaced.
func (a deposits) ResolveConflict(ctx context.Context, req *conservationv1.ResolveConflictRequest) (*conservationv1.Conflict, error) {
	missing := fault.NotFound("CONFLICT_NOT_FOUND", "there is no conflict %s", req.GetName())
	tenant, id, err := parseName("name", req.GetName(), "conflicts", missing)
	if err != nil {
		return nil, err
	}
	row, err := a.s.deposit(ctx, tenant, id)
	if errors.Is(err, fault.NotFound("DEPOSIT_NOT_FOUND", "")) {
		return a.resolveParked(ctx, tenant, id, req, missing)
	}
	if err != nil {
		return nil, err
	}
	if row.State != "CONFLICT" {
		return nil, fault.Precondition("CONFLICT_RESOLVED", "conflict %s was resolved already: %s by %s", req.GetName(), row.Resolution, row.ResolvedBy)
	}
	v := verdictOf{strings.TrimPrefix(req.GetResolution().String(), "CONFLICT_RESOLUTION_"), actor(ctx), req.GetReason()}
	var head depositHead
	err = json.Unmarshal(row.Head, &head)
	if err != nil {
		return nil, fmt.Errorf("conservation: head of deposit %s: %w", row.ID, err)
	}
	j := &judgement{s: a.s, row: row, document: head.Document, verification: row.Verification}
	if v.resolution == "KEEP_HELD" {
		j.finding.format.name = row.Format
		j.refuse(problemConflict, "%s; what is held was kept: %s", row.Reason, req.GetReason())
		row, err = a.s.refuseDeposit(ctx, row, j, v)
	} else {
		row, err = a.s.acceptAfterAll(ctx, row, j, v)
	}
	if err != nil {
		return nil, err
	}
	var m *conservationv1.Conflict
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		m, err = conflictMessage(ctx, tx, row)
		return err
	})
	return m, err
}

// acceptAfterAll judges a deposit again, whose key holds other bytes, and takes it in beside them.
func (s *Service) acceptAfterAll(ctx context.Context, row db.Deposit, j *judgement, v verdictOf) (db.Deposit, error) {
	done, err := s.holdBytes(ctx, s.judged, row.Size)
	if err != nil {
		return row, err
	}
	defer done()
	j.raw, err = s.depositContent(ctx, row)
	if err == nil {
		err = j.judge(ctx)
	}
	if err != nil {
		return row, err
	}
	return s.acceptDeposit(ctx, row, j, v)
}

// resolveParked ends a conflict that came as an event: what is held stays, the event is dropped with the reason.
func (a deposits) resolveParked(ctx context.Context, tenant string, id uuid.UUID, req *conservationv1.ResolveConflictRequest, missing *fault.Fault) (*conservationv1.Conflict, error) {
	p, err := a.s.bus.GetParked(ctx, id)
	if errors.Is(err, fault.NotFound("PARKED_NOT_FOUND", "")) || (err == nil && (p.Tenant != tenant || p.Code != codeConflict)) {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	if req.GetResolution() != conservationv1.ConflictResolution_CONFLICT_RESOLUTION_KEEP_HELD {
		return nil, fault.Precondition("CONFLICT_OF_EVENT", "resolution: what came as an event has a key that SdI gave; two documents cannot have it. Keep the held one, and hand the other over as a deposit under a key of its own")
	}
	by := actor(ctx)
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "conflict.resolve", Resource: req.GetName(), Detail: map[string]string{"resolution": "KEEP_HELD", "reason": req.GetReason()}})
	})
	if err == nil {
		err = a.s.bus.DropParked(ctx, id, req.GetReason())
	}
	if err != nil {
		return nil, err
	}
	return &conservationv1.Conflict{Name: req.GetName(), Key: p.Correlation, Reason: p.Reason, CreateTime: timestamppb.New(p.ParkedAt), Resolution: req.GetResolution(), ResolvedBy: by}, nil
}

// wireDeposits is what producers hand over themselves.
func (s *Service) wireDeposits(h *run.Host) {
	conservationv1.RegisterDepositServiceServer(h.RPC, deposits{s: s})
	run.Work(h, run.WorkOptions{Queue: "rdv", Workers: 32, Timeout: time.Minute}, s.reportDeposit) // each waits for the log most of its time
	s.wireSubmissions(h)
}
