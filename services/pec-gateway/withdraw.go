package pecgateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// errTrustMoved: what was judged by an earlier trust list is not written down; it is judged again.
var errTrustMoved = fault.Aborted("TRUST_LIST_CHANGED", "the trust list was changed while a message was judged by it")

// changeTrust runs a change of the trust list. Changes go one by one and wait for the messages that are being written down.
func (s *Service) changeTrust(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := q(tx).LockTrust(ctx)
		if err != nil {
			return err
		}
		return fn(ctx, tx)
	})
}

// holdTrust makes sure until the end of the transaction that no list later than this one stands: so whoever looks, after a
// change, at what earlier lists proved finds all of it.
func (s *Service) holdTrust(ctx context.Context, tx pgx.Tx, version int64) error {
	err := q(tx).HoldTrust(ctx)
	if err != nil {
		return err
	}
	now, err := q(tx).TrustVersion(ctx)
	if err == nil && now != version {
		err = errTrustMoved
	}
	return err
}

// withdrawals are those that stand, by provider.
func withdrawals(ctx context.Context, tx pgx.Tx) (map[string][]db.TrustWithdrawal, error) {
	rows, err := q(tx).ListStandingWithdrawals(ctx)
	out := map[string][]db.TrustWithdrawal{}
	for _, r := range rows {
		out[r.Provider] = append(out[r.Provider], r)
	}
	return out, err
}

func withdrawalOf(r db.TrustWithdrawal) pec.Withdrawal {
	w := pec.Withdrawal{Certificate: r.Certificate}
	if r.EffectiveTime != nil {
		w.From = *r.EffectiveTime
	}
	return w
}

// WithdrawTrust ends the trust in a provider or a certificate and promises to judge anew what it takes the proof from.
// Faults: those of the contract.
func (s *Service) WithdrawTrust(ctx context.Context, req *pecv1.WithdrawTrustRequest) (*pecv1.TrustWithdrawal, error) {
	if req.GetFromBeginning() == (req.GetEffectiveTime() != nil) {
		return nil, fault.Invalid("EFFECTIVE_TIME_REQUIRED", "effective_time: say from when on, or that it was never to be trusted (from_beginning), and not both").
			WithField("effective_time", "EFFECTIVE_TIME_REQUIRED", "give it or from_beginning")
	}
	id, err := pg.NewID()
	if err != nil {
		return nil, err
	}
	w := db.TrustWithdrawal{ID: id, Provider: strings.Join(strings.Fields(req.GetProvider()), " "), Certificate: req.GetCertificate(),
		Reason: req.GetReason(), DecidedBy: telemetry.Actor(ctx), DecideTime: pg.Time(s.now())}
	if from := req.GetEffectiveTime(); from != nil {
		at := pg.Time(from.AsTime())
		w.EffectiveTime = &at
	}
	err = s.changeTrust(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := withdrawable(ctx, tx, w)
		if err != nil {
			return err
		}
		w.Version, err = s.trustChanged(ctx, tx, "withdrawn "+fromWhen(w)+": "+w.Provider+" "+or(w.Certificate, "as a whole")+" ("+w.Reason+")")
		if err != nil {
			return err
		}
		err = q(tx).InsertWithdrawal(ctx, db.InsertWithdrawalParams{ID: w.ID, Provider: w.Provider, Certificate: w.Certificate,
			EffectiveTime: w.EffectiveTime, Reason: w.Reason, DecidedBy: w.DecidedBy, DecideTime: w.DecideTime, Version: w.Version})
		if err != nil {
			return err
		}
		return s.jobs.InsertTx(ctx, tx, rejudgeArgs{Withdrawal: w.ID}, nil)
	})
	if err != nil {
		return nil, err
	}
	return showWithdrawal(w), nil
}

func fromWhen(w db.TrustWithdrawal) string {
	if w.EffectiveTime == nil {
		return "from the beginning"
	}
	return "from " + w.EffectiveTime.UTC().Format(time.RFC3339) + " on"
}

// withdrawable says why something cannot be withdrawn.
func withdrawable(ctx context.Context, tx pgx.Tx, w db.TrustWithdrawal) error {
	provider, err := q(tx).GetProvider(ctx, w.Provider)
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.NotFound("PROVIDER_NOT_LISTED", "the trust list has no provider %q", w.Provider)
	}
	if err != nil {
		return err
	}
	if w.Certificate != "" && !slices.Contains(provider.Sha256, w.Certificate) && !slices.Contains(provider.Sha1, w.Certificate) {
		return fault.NotFound("CERTIFICATE_NOT_LISTED", "the trust list has no certificate %s of %s: name it as the list does", w.Certificate, w.Provider)
	}
	standing, err := withdrawals(ctx, tx)
	for _, e := range standing[w.Provider] {
		covers := e.Certificate == "" || e.Certificate == w.Certificate
		if covers && (e.EffectiveTime == nil || w.EffectiveTime != nil && !e.EffectiveTime.After(*w.EffectiveTime)) {
			return fault.Precondition("ALREADY_WITHDRAWN", "%s withdrew it %s: to change that to a later moment reinstate it first (%s)",
				e.DecidedBy, fromWhen(e), withdrawalName(e.ID))
		}
	}
	return err
}

func withdrawalName(id uuid.UUID) string { return "trustWithdrawals/" + id.String() }

func showWithdrawn(w db.TrustWithdrawal) *pecv1.WithdrawnTrust {
	return &pecv1.WithdrawnTrust{Certificate: w.Certificate, EffectiveTime: stamp(w.EffectiveTime), Reason: w.Reason}
}

func showWithdrawal(w db.TrustWithdrawal) *pecv1.TrustWithdrawal {
	return &pecv1.TrustWithdrawal{
		Name: withdrawalName(w.ID), Provider: w.Provider, Withdrawn: showWithdrawn(w), DecidedBy: w.DecidedBy, DecideTime: timestamppb.New(w.DecideTime),
		Version: strconv.FormatInt(w.Version, 10), EndTime: stamp(w.EndTime), EndedBy: w.EndedBy, EndReason: w.EndReason,
		UnprovenMessages: w.Unproven, DoubtedReceipts: w.Doubted, FailedMessages: w.Failed, JudgeTime: stamp(w.JudgeTime),
	}
}

// ReinstateTrust takes a withdrawal back. Faults: those of the contract.
func (s *Service) ReinstateTrust(ctx context.Context, req *pecv1.ReinstateTrustRequest) (*pecv1.TrustWithdrawal, error) {
	id, err := uuid.Parse(strings.TrimPrefix(req.GetName(), "trustWithdrawals/"))
	if err != nil {
		return nil, noWithdrawal(req.GetName())
	}
	var w db.TrustWithdrawal
	err = s.changeTrust(ctx, func(ctx context.Context, tx pgx.Tx) error {
		w, err = q(tx).LockWithdrawal(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return noWithdrawal(req.GetName())
		}
		if err != nil {
			return err
		}
		if w.EndTime != nil {
			return fault.Precondition("WITHDRAWAL_ENDED", "%s took it back on %s", w.EndedBy, w.EndTime.UTC().Format(time.RFC3339))
		}
		now := pg.Time(s.now())
		w.EndTime, w.EndedBy, w.EndReason = &now, telemetry.Actor(ctx), req.GetReason()
		err = q(tx).EndWithdrawal(ctx, db.EndWithdrawalParams{ID: w.ID, EndTime: w.EndTime, EndedBy: w.EndedBy, EndReason: w.EndReason})
		if err == nil {
			_, err = s.trustChanged(ctx, tx, "reinstated: "+w.Provider+" "+or(w.Certificate, "as a whole")+" ("+w.EndReason+")")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return showWithdrawal(w), nil
}

func noWithdrawal(name string) error {
	return fault.NotFound("WITHDRAWAL_NOT_FOUND", "there is no withdrawal %s", name)
}

// ListTrustWithdrawals shows every withdrawal, newest first.
func (s *Service) ListTrustWithdrawals(ctx context.Context, req *pecv1.ListTrustWithdrawalsRequest) (*pecv1.ListTrustWithdrawalsResponse, error) {
	filter := pg.FilterHash("trustWithdrawals")
	var last uuid.UUID
	found, err := pg.DecodePageToken(req.GetPageToken(), filter, &last)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	p := db.ListWithdrawalsParams{PageSize: size + 1}
	if found {
		p.Before = &last
	}
	out := &pecv1.ListTrustWithdrawalsResponse{}
	err = s.db.SystemView(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).ListWithdrawals(ctx, p)
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.TrustWithdrawal) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for _, r := range rows {
			out.Withdrawals = append(out.Withdrawals, showWithdrawal(r))
		}
		return err
	})
	return out, err
}

// compareIndex notes which providers an index names, and tells which of earlier indexes it does not, and which withdrawals
// stand against it.
func (s *Service) compareIndex(ctx context.Context, tx pgx.Tx, entries []pec.IndiceEntry, out *pecv1.ImportTrustListResponse) error {
	if len(entries) == 0 {
		return nil // authorities or lists of revoked certificates alone
	}
	standing, err := withdrawals(ctx, tx)
	if err != nil {
		return err
	}
	names := []string{}
	for _, e := range entries {
		row := providerRow(e)
		names = append(names, row.Name)
		for _, w := range standing[row.Name] {
			if w.Certificate == "" || slices.Contains(row.Sha256, w.Certificate) || slices.Contains(row.Sha1, w.Certificate) {
				out.StandingWithdrawals = append(out.StandingWithdrawals, withdrawalName(w.ID))
			}
		}
	}
	now := pg.Time(s.now())
	err = q(tx).MarkAbsentProviders(ctx, db.MarkAbsentProvidersParams{Now: now, Named: names})
	if err == nil {
		err = q(tx).MarkNamedProviders(ctx, db.MarkNamedProvidersParams{Now: now, Named: names})
	}
	if err != nil {
		return err
	}
	rows, err := q(tx).ListProviders(ctx)
	for _, r := range rows {
		if r.AbsentSince != nil {
			out.AbsentProviders = append(out.AbsentProviders, r.Name)
		}
	}
	return err
}

// importText is what the record of an import says.
func importText(out *pecv1.ImportTrustListResponse) string {
	text := fmt.Sprintf("import: %d providers added, %d changed, %d authorities and %d revocation lists added",
		out.GetProvidersAdded(), out.GetProvidersChanged(), out.GetAuthoritiesAdded(), out.GetRevocationListsAdded())
	if len(out.GetAbsentProviders()) > 0 {
		text += "; not in the index: " + strings.Join(out.GetAbsentProviders(), ", ")
	}
	return text
}
