package conservation

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// verdictOf is a person's word in a conflict; zero: none was needed.
type verdictOf struct{ resolution, by, reason string }

// refuseDeposit writes the reasons down and tells them.
func (s *Service) refuseDeposit(ctx context.Context, row db.Deposit, j *judgement, v verdictOf) (db.Deposit, error) {
	raw, err := json.Marshal(j.problems)
	if err != nil {
		return row, fmt.Errorf("conservation: problems of deposit: %w", err)
	}
	at := pg.Time(s.now())
	err = s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.RefuseDeposit(ctx, db.RefuseDepositParams{ID: row.ID, Format: j.finding.format.name, Problems: raw, Verification: j.verification, At: &at, Resolution: v.resolution, ResolvedBy: v.by, Reason: v.reason})
		if err != nil {
			return err
		}
		if n == 0 {
			return errDepositConcurrent()
		}
		row, err = q.GetDeposit(ctx, db.GetDepositParams{TenantID: row.TenantID, ID: row.ID})
		if err != nil {
			return err
		}
		left, err := s.attemptsLeft(ctx, q, row)
		if err != nil {
			return err
		}
		var codes []string
		for _, p := range j.problems {
			codes = append(codes, p.Code)
		}
		slices.Sort(codes)
		codes = slices.Compact(codes)
		if left <= 1 {
			s.log.WarnContext(ctx, "a deposit was refused and may be tried once more at most", "deposit", row.ID, "codes", codes, "attempts_left", left)
		}
		err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "deposit.refuse", Resource: depositName(row.TenantID, row.ID), Detail: map[string]string{"codes": strings.Join(codes, " ")}})
		if err != nil {
			return err
		}
		return s.bus.Emit(ctx, tx, &conservationv1.DepositRefused{Deposit: depositName(row.TenantID, row.ID), Key: row.ClientKey, Codes: codes, AttemptsLeft: left})
	})
	return row, err
}

func (s *Service) attemptsLeft(ctx context.Context, q *db.Queries, row db.Deposit) (int32, error) {
	refused, err := q.CountRefusals(ctx, db.CountRefusalsParams{TenantID: row.TenantID, ClientKey: row.ClientKey})
	return max(0, int32(s.cfg.Deposits.Attempts)-int32(refused)), err //nolint:gosec // small numbers
}

// acceptDeposit takes a deposit in charge: its unit, its state and the order for its report are one transaction. A key that
// holds other bytes makes it a conflict.
func (s *Service) acceptDeposit(ctx context.Context, row db.Deposit, j *judgement, v verdictOf) (db.Deposit, error) {
	d := &deposited{ID: row.ID.String(), Key: row.ClientKey, Kind: row.Kind, Format: j.finding.format.name, Signed: j.finding.signed, Years: yearsOf(row.Class), Document: j.document, Origin: j.origin}
	if v.resolution == "KEEP_BOTH" {
		d.Other = row.Attempt
	}
	in := &intake{tenant: row.TenantID, key: d.unitKey(), subject: depositName(row.TenantID, row.ID), class: row.Class, year: row.FiscalYear, facts: factsOfDeposit(row.FileName, d, j.bodies)}
	sum := sha256.Sum256(j.raw)
	in.files = []db.UnitFile{{TenantID: row.TenantID, Role: "transmitted", FileName: row.FileName, MediaType: j.finding.format.media, Sha256: sum[:], Size: int64(len(j.raw))}}
	if s.replicas == nil { // without replicas documents rest on the platform's store, whole
		_, err := s.blobs.Put(ctx, row.TenantID, j.raw)
		if err != nil {
			return row, err
		}
	}
	at := pg.Time(s.now())
	err := s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		locked, err := q.LockDeposit(ctx, db.LockDepositParams{TenantID: row.TenantID, ID: row.ID})
		if err != nil {
			return err
		}
		if locked.State != row.State {
			return errDepositConcurrent()
		}
		held, err := q.HeldDeposit(ctx, db.HeldDepositParams{TenantID: row.TenantID, ClientKey: row.ClientKey})
		switch {
		case errors.Is(err, pgx.ErrNoRows):
		case err != nil:
			return err
		case d.Other == 0:
			return s.contest(ctx, tx, row, j, held, at)
		}
		unit, err := s.takeNow(ctx, tx, in, [][]byte{j.raw})
		if err != nil {
			return err
		}
		_, err = q.AcceptDeposit(ctx, db.AcceptDepositParams{ID: row.ID, Unit: &unit, Format: j.finding.format.name, Verification: j.verification, At: &at, Resolution: v.resolution, ResolvedBy: v.by, Reason: v.reason})
		if err != nil {
			return fmt.Errorf("conservation: accept deposit: %w", err)
		}
		err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "deposit.accept", Resource: depositName(row.TenantID, row.ID), Detail: map[string]string{"unit": unit.String()}})
		if err != nil {
			return err
		}
		return s.jobs.InsertTx(ctx, tx, rdvArgs{Tenant: row.TenantID, Deposit: row.ID}, nil)
	})
	if err != nil {
		return row, err
	}
	return s.deposit(ctx, row.TenantID, row.ID)
}

func (s *Service) contest(ctx context.Context, tx pgx.Tx, row db.Deposit, j *judgement, held db.Deposit, at time.Time) error {
	_, err := db.New(tx).ContestDeposit(ctx, db.ContestDepositParams{ID: row.ID, Format: j.finding.format.name, Verification: j.verification, At: &at, Reason: holdsOther(row, held)})
	if err != nil {
		return fmt.Errorf("conservation: contest deposit: %w", err)
	}
	s.log.WarnContext(ctx, "a deposit waits for a person: its key holds other bytes", "deposit", row.ID, "held_by", held.ID)
	return telemetry.Audit(ctx, tx, telemetry.Act{Action: "deposit.conflict", Resource: depositName(row.TenantID, row.ID), Detail: map[string]string{"held_by": held.ID.String()}})
}

// takeNow takes one unit in within the transaction and gives its id: that of the unit which holds the key when it is the same.
func (s *Service) takeNow(ctx context.Context, tx pgx.Tx, in *intake, contents [][]byte) (uuid.UUID, error) {
	id, err := pg.NewID()
	if err != nil {
		return id, err
	}
	unit := pg.UnitOf(ctx, tx)
	if unit == nil {
		return id, fault.Internal("UNIT_WITHOUT_TRANSACTION", "units are taken in within a transaction")
	}
	t := &takings{bag: &satchel{r: s.replicas, tenant: in.tenant, ctx: ctx, wait: unit.Join}}
	for i := range in.files {
		err = t.bag.add(id, &in.files[i], contents[i])
		if err != nil {
			return id, err
		}
	}
	t.arrivals = []arrival{{intake: in, id: id, story: ctx}}
	err = s.write(ctx, tx, t)
	if err != nil {
		return id, err
	}
	row, err := db.New(tx).UnitOfKey(ctx, db.UnitOfKeyParams{TenantID: in.tenant, UnitKey: in.key})
	return row.ID, err
}

func (s *Service) deposit(ctx context.Context, tenant string, id uuid.UUID) (db.Deposit, error) {
	var row db.Deposit
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		row, err = db.New(tx).GetDeposit(ctx, db.GetDepositParams{TenantID: tenant, ID: id})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return row, noDeposit(depositName(tenant, id))
	}
	return row, err
}

func depositName(tenant string, id uuid.UUID) string {
	return "tenants/" + tenant + "/deposits/" + id.String()
}

func noDeposit(name string) *fault.Fault {
	return fault.NotFound("DEPOSIT_NOT_FOUND", "there is no deposit %s", name)
}
