package conservation

import (
	"context"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// evidence answers EvidenceService: receipts, checkpoints, proofs and tiles.
type evidence struct {
	conservationv1.UnimplementedEvidenceServiceServer

	s *Service
}

func (e evidence) on() error {
	if e.s.book == nil {
		return fault.Precondition("LOG_OFF", "no log of evidence is kept here: set conservation.log.origin and conservation.log.key_file")
	}
	return nil
}

// GetUnitReceipt gives the receipt of a unit's leaf.
func (e evidence) GetUnitReceipt(ctx context.Context, req *conservationv1.GetUnitReceiptRequest) (*conservationv1.Receipt, error) {
	tenant, id, err := parseName("name", req.GetName(), "units", noUnit(req.GetName()))
	if err != nil {
		return nil, err
	}
	return e.receipt(ctx, tenant, req.GetName(), id, req.GetRevision(), req.GetLatest(), func(ctx context.Context, q *db.Queries) error {
		u, err := q.GetUnit(ctx, id)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return noUnit(req.GetName())
		case err == nil && u.State == "REFUSED":
			return fault.Precondition("UNIT_REFUSED", "the unit was refused and never taken in charge: %s", u.Problem)
		case err == nil && req.GetRevision() > 1:
			return fault.NotFound("REVISION_NOT_FOUND", "the unit has no revision %d in the log; it may come within a second", req.GetRevision())
		}
		return err
	})
}

// GetPackageReceipt gives the receipt of a sealed package's leaf.
func (e evidence) GetPackageReceipt(ctx context.Context, req *conservationv1.GetPackageReceiptRequest) (*conservationv1.Receipt, error) {
	tenant, id, err := parseName("name", req.GetName(), "packages", noPackage(req.GetName()))
	if err != nil {
		return nil, err
	}
	return e.receipt(ctx, tenant, req.GetName(), id, 0, req.GetLatest(), func(ctx context.Context, q *db.Queries) error {
		p, err := q.GetPackage(ctx, id)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return noPackage(req.GetName())
		case err == nil && p.State != "SEALED":
			return fault.Precondition("PACKAGE_NOT_SEALED", "package is %s: its receipt comes when it is sealed; follow it with GetPackage", p.State)
		}
		return err
	})
}

// receipt proves the leaf of a subject against a checkpoint: the first stamped one that has it, unless the
// last one is wanted or none is stamped yet. Why says what is wrong when there is no leaf.
func (e evidence) receipt(ctx context.Context, tenant, name string, id uuid.UUID, revision int32, latest bool, why func(context.Context, *db.Queries) error) (*conservationv1.Receipt, error) {
	err := e.on()
	if err != nil {
		return nil, err
	}
	var resp *conservationv1.Receipt
	err = e.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		leaf, err := q.LeafOf(ctx, db.LeafOfParams{Subject: id, Revision: revision})
		if errors.Is(err, pgx.ErrNoRows) {
			err = why(ctx, q)
			if err != nil {
				return err
			}
			return notReady()
		}
		if err != nil {
			return err
		}
		point, err := q.StampedFrom(ctx, leaf.Idx)
		if latest || errors.Is(err, pgx.ErrNoRows) {
			point, err = q.LastCheckpoint(ctx)
		}
		if errors.Is(err, pgx.ErrNoRows) || (err == nil && point.Size <= leaf.Idx) {
			return notReady()
		}
		if err != nil {
			return err
		}
		resp, err = e.prove(ctx, q, name, leaf, point)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func notReady() error {
	return fault.Precondition("RECEIPT_NOT_READY", "the log does not state it yet: ask again in a second or two").WithRetryAfter(time.Second)
}

func (e evidence) prove(ctx context.Context, q *db.Queries, name string, leaf db.LogLeaf, point db.LogCheckpoint) (*conservationv1.Receipt, error) {
	signed, err := tlog.OpenCheckpoint(point.Note, e.s.book.policy)
	if err != nil {
		return nil, err
	}
	proof, err := tlog.Inclusion(ctx, tileStore{q}, signed.Tree, leaf.Idx)
	if err != nil {
		return nil, err
	}
	points := []db.LogCheckpoint{point}
	_, err = cosigned(ctx, q, points)
	if err != nil {
		return nil, err
	}
	r := tlog.Receipt{Index: leaf.Idx, Proof: proof, Checkpoint: points[0].Note, Entry: leaf.Entry, Stamp: point.Stamp}
	_, err = r.Verify(nil, e.s.book.policy, tlog.StampPolicy{}) // nothing leaves that its reader would refuse
	if err != nil {
		return nil, err
	}
	text, err := r.Marshal()
	if err != nil {
		return nil, err
	}
	return &conservationv1.Receipt{
		Name: name, Receipt: text, Index: leaf.Idx, TenantSequence: leaf.Sequence, Revision: leaf.Revision,
		CheckpointSize: point.Size, StampTime: timeMessage(point.StampTime),
	}, nil
}

// GetLog names the log and its key.
func (e evidence) GetLog(ctx context.Context, _ *conservationv1.GetLogRequest) (*conservationv1.Log, error) {
	err := e.on()
	if err != nil {
		return nil, err
	}
	l := e.s.book
	resp := &conservationv1.Log{Origin: l.cfg.Origin, VerifierKey: l.signer.String(), FormerKeys: l.cfg.FormerKeys}
	point, err := e.checkpoint(ctx, 0)
	switch {
	case err == nil:
		resp.Size = point.Size
	case !errors.Is(err, noCheckpoint(0)):
		return nil, err
	}
	err = l.describe(ctx, resp)
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func noCheckpoint(size int64) *fault.Fault {
	if size == 0 {
		return fault.NotFound("CHECKPOINT_NOT_FOUND", "the log has no checkpoint yet: nothing was taken in charge")
	}
	return fault.NotFound("CHECKPOINT_NOT_FOUND", "there is no checkpoint of size %d; ListCheckpoints names them", size)
}

// checkpoint reads the checkpoint of a size, the last for 0.
func (e evidence) checkpoint(ctx context.Context, size int64) (point db.LogCheckpoint, err error) {
	err = e.on()
	if err != nil {
		return point, err
	}
	err = e.s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if size == 0 {
			point, err = db.New(tx).LastCheckpoint(ctx)
		} else {
			point, err = db.New(tx).CheckpointAt(ctx, size)
		}
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return point, noCheckpoint(size)
	}
	return point, err
}

// GetCheckpoint gives what the log stated at a size, or last.
func (e evidence) GetCheckpoint(ctx context.Context, req *conservationv1.GetCheckpointRequest) (*conservationv1.Checkpoint, error) {
	point, err := e.checkpoint(ctx, req.GetSize())
	if err != nil {
		return nil, err
	}
	list, err := e.messages(ctx, point)
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// messages are checkpoints with the cosignatures that there are, and with the last stamp of those that were stamped again.
func (e evidence) messages(ctx context.Context, points ...db.LogCheckpoint) (list []*conservationv1.Checkpoint, err error) {
	var names map[int64][]string
	var again []db.RestampsOfRow
	err = e.s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q, sizes := db.New(tx), []int64(nil)
		for _, p := range points {
			sizes = append(sizes, p.Size)
		}
		names, err = cosigned(ctx, q, points)
		if err != nil {
			return err
		}
		again, err = q.RestampsOf(ctx, sizes)
		return err
	})
	if err != nil {
		return nil, err
	}
	at := map[int64]*conservationv1.Checkpoint{}
	for _, p := range points {
		at[p.Size] = &conservationv1.Checkpoint{
			Size: p.Size, Note: p.Note, SignTime: timestamppb.New(p.SignedAt), Stamp: p.Stamp,
			StampTime: timeMessage(p.StampTime), StampAuthority: p.StampBy, Witnesses: names[p.Size],
		}
		list = append(list, at[p.Size])
	}
	for _, s := range again {
		m := at[s.Size]
		m.NewestStamp, m.NewestStampTime, m.NewestStampAuthority = s.Stamp, timestamppb.New(s.StampTime), s.StampBy
	}
	return list, nil
}

func timeMessage(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}

// ListCheckpoints lists what the log stated, the largest first.
func (e evidence) ListCheckpoints(ctx context.Context, req *conservationv1.ListCheckpointsRequest) (*conservationv1.ListCheckpointsResponse, error) {
	err := e.on()
	if err != nil {
		return nil, err
	}
	stamped := "all"
	if req.GetStamped() {
		stamped = "stamped"
	}
	size, before, filter := pageSize(req.GetPageSize()), int64(math.MaxInt64), pg.FilterHash("checkpoints", stamped)
	_, err = pg.DecodePageToken(req.GetPageToken(), filter, &before)
	if err != nil {
		return nil, err
	}
	var rows []db.LogCheckpoint
	err = e.s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).ListCheckpoints(ctx, db.ListCheckpointsParams{Before: before, Stamped: req.GetStamped(), Page: int32(size + 1)}) //nolint:gosec // at most 1001
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ListCheckpointsResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.LogCheckpoint) []any { return []any{r.Size} })
	if err != nil {
		return nil, err
	}
	resp.Checkpoints, err = e.messages(ctx, rows...)
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// GetConsistencyProof proves that the log only grew.
func (e evidence) GetConsistencyProof(ctx context.Context, req *conservationv1.GetConsistencyProofRequest) (*conservationv1.ConsistencyProof, error) {
	point, err := e.checkpoint(ctx, req.GetSize())
	if err != nil {
		return nil, err
	}
	if req.GetOldSize() > point.Size {
		return nil, fault.Precondition("LOG_SMALLER", "the checkpoint has %d entries and %d are asked for: if the log ever signed that size, it was rolled back", point.Size, req.GetOldSize())
	}
	signed, err := tlog.OpenCheckpoint(point.Note, e.s.book.policy)
	if err != nil {
		return nil, err
	}
	list, err := e.messages(ctx, point)
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ConsistencyProof{OldSize: req.GetOldSize(), Checkpoint: list[0]}
	err = e.s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		proof, err := tlog.Consistency(ctx, tileStore{db.New(tx)}, req.GetOldSize(), signed.Tree)
		for _, h := range proof {
			resp.Hashes = append(resp.Hashes, h[:])
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// GetTile gives a tile by its path. Bundles of entries are for operators: see evidence.proto.
func (e evidence) GetTile(ctx context.Context, req *conservationv1.GetTileRequest) (*conservationv1.Tile, error) {
	err := e.on()
	if err != nil {
		return nil, err
	}
	tile, err := tlog.ParsePath(req.GetPath())
	if err != nil {
		return nil, fault.Invalid("TILE_PATH_INVALID", "path: %s", strings.TrimPrefix(err.Error(), "tlog: ")).WithField("path", "TILE_PATH_INVALID", err.Error())
	}
	caller, ok := auth.From(ctx)
	if tile.Level == tlog.EntryLevel && (!ok || caller.Role != auth.RoleOperator) {
		return nil, fault.Denied("TILE_DENIED", "bundles of entries are for operators: take the receipts of your units instead")
	}
	resp := &conservationv1.Tile{}
	err = e.s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		resp.Data, err = tileStore{db.New(tx)}.Get(ctx, req.GetPath())
		return err
	})
	if errors.Is(err, tlog.ErrNotFound) {
		return nil, fault.NotFound("TILE_NOT_FOUND", "%s is not in the log; a partial tile goes when the full one is there", req.GetPath())
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}
