package signer

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// marks are how many days before the end of a certificate its people are warned.
var marks = []int32{60, 30, 7}

// watchActor is who acts when nobody asked.
const watchActor = "service:signer"

// watch looks after credentials for as long as the process lasts: it puts certificates to use that have become
// valid, warns of those that end, and looks whether a key could leave Vault, at the start and every hour.
func (s *Service) watch(ctx context.Context) error {
	ctx = telemetry.WithActor(ctx, watchActor)
	tick := time.NewTicker(s.cfg.Keys.CheckEvery)
	defer tick.Stop()
	var looked time.Time
	for {
		for what, fn := range map[string]func(context.Context) error{"certificates to use": s.useDue, "warnings": s.warnDue} {
			if err := fn(ctx); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "credentials not looked after: "+what, "code", fault.Of(err).Code, "error", err.Error())
			}
		}
		if now := s.now(); looked.IsZero() || now.Sub(looked) >= recheckKey {
			err := s.checkKeys(ctx)
			switch {
			case err == nil:
				looked = now
			case ctx.Err() == nil:
				s.log.WarnContext(ctx, "keys in Vault not looked at", "code", fault.Of(err).Code, "error", err.Error())
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// useDue puts certificates to use that waited for their time.
func (s *Service) useDue(ctx context.Context) error {
	var used []uuid.UUID
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		used = nil
		q, now := db.New(tx), pg.Time(s.now())
		due, err := q.DueCertificates(ctx, now)
		if err != nil {
			return fmt.Errorf("signer: due certificates: %w", err)
		}
		for _, row := range due {
			ctx := pg.WithTenant(ctx, row.TenantID)
			c, err := q.LockCredential(ctx, row.CredentialID)
			if err != nil {
				return fmt.Errorf("signer: lock credential: %w", err)
			}
			n, err := q.UseCertificate(ctx, db.UseCertificateParams{ID: row.ID, At: &now})
			if err != nil {
				return fmt.Errorf("signer: use certificate: %w", err)
			}
			if n == 0 || c.State == "REVOKED" {
				continue
			}
			err = q.SetCertificate(ctx, db.SetCertificateParams{
				ID: c.ID, Chain: row.Chain, NotBefore: &row.NotBefore, NotAfter: &row.NotAfter, KeyVersion: row.KeyVersion, PublicKey: row.PublicKey, CsrPem: row.CsrPem, At: now,
			})
			if err != nil {
				return fmt.Errorf("signer: set certificate: %w", err)
			}
			if err = s.tellState(ctx, tx, c, c.State, "the next certificate is valid and signs from now on", ""); err != nil {
				return err
			}
			err = telemetry.Audit(ctx, tx, telemetry.Act{
				Action: "credential.use_certificate", Resource: nameOfCredential(c), Detail: map[string]string{"key_version": fmt.Sprint(row.KeyVersion)},
			})
			if err != nil {
				return err
			}
			used = append(used, c.ID)
		}
		return nil
	})
	if err == nil {
		for _, id := range used {
			s.ready.forget(id)
		}
	}
	return err
}

// warnDue gives the warnings that are due: the row that says so is what makes each happen once.
func (s *Service) warnDue(ctx context.Context) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q, now := db.New(tx), pg.Time(s.now())
		due, err := q.DueWarnings(ctx, db.DueWarningsParams{Marks: marks, At: now})
		if err != nil {
			return fmt.Errorf("signer: due warnings: %w", err)
		}
		for _, row := range due {
			ctx := pg.WithTenant(ctx, row.TenantID)
			n, err := q.InsertWarning(ctx, db.InsertWarningParams{TenantID: row.TenantID, CredentialID: row.ID, NotAfter: row.NotAfter, Days: row.Days, At: now})
			if err != nil {
				return fmt.Errorf("signer: insert warning: %w", err)
			}
			if n == 0 {
				continue
			}
			c := db.Credential{ID: row.ID, TenantID: row.TenantID, CompanyID: row.CompanyID}
			err = s.bus.Emit(bus.WithCorrelation(ctx, row.ID.String()), tx, &signv1.CredentialExpiring{
				Credential: nameOfCredential(c), Days: row.Days, ExpireTime: timestamppb.New(row.NotAfter),
			})
			if err != nil {
				return err
			}
			err = s.notify(ctx, tx, c, fmt.Sprintf("%s: il certificato della tua firma scade il %s: chiedi il rinnovo.", s.cfg.Authorization.Issuer, row.NotAfter.UTC().Format("02/01/2006")))
			if err != nil {
				return err
			}
			err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "credential.warn", Resource: nameOfCredential(c), Detail: map[string]string{"days": fmt.Sprint(row.Days)}})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// checkKeys looks at every key in use. One that could leave Vault has its credential suspended: it would be
// refused at its next use, and nobody should find out by that.
func (s *Service) checkKeys(ctx context.Context) error {
	after := uuid.Nil
	for {
		var rows []db.Credential
		err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			rows, err = db.New(tx).KeysInUse(ctx, after)
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, c := range rows {
			after = c.ID
			_, refused := s.vault.readKey(ctx, c.KeyName, c.KeyType)
			if refused == nil {
				continue
			}
			if fault.Of(refused).Code != codeKeyRefused {
				return refused
			}
			if err = s.suspendRefused(ctx, c, refused); err != nil {
				return err
			}
		}
	}
}

func (s *Service) suspendRefused(ctx context.Context, c db.Credential, refused error) error {
	s.log.ErrorContext(ctx, "a key in Vault is refused: its credential is suspended", "credential", nameOfCredential(c), "error", refused.Error())
	return s.suspendFor(ctx, c, codeKeyRefused)
}

// suspendFor suspends a credential that is still active.
func (s *Service) suspendFor(ctx context.Context, c db.Credential, code string) error {
	s.ready.forget(c.ID)
	return s.db.Tx(ctx, c.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		now, err := db.New(tx).LockCredential(ctx, c.ID)
		if err != nil || now.State != "ACTIVE" {
			return err
		}
		return s.suspend(ctx, tx, c, code)
	})
}

// ListExpiringCredentials lists what signs and ends soon, with nothing to take its place.
func (s *Service) ListExpiringCredentials(ctx context.Context, req *signv1.ListExpiringCredentialsRequest) (*signv1.ListExpiringCredentialsResponse, error) {
	ids, ok := cut(req.GetParent(), "tenants")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}", req.GetParent())
	}
	tenant := ids[0]
	if tenant == "-" {
		tenant = ""
	}
	days, size := req.GetDays(), int(req.GetPageSize())
	if days == 0 {
		days = marks[0]
	}
	if size == 0 {
		size = defaultPage
	}
	now := s.now()
	list := db.ListExpiringParams{TenantID: tenant, Until: ptr(pg.Time(now.AddDate(0, 0, int(days)))), At: pg.Time(now), AfterTime: time.Unix(0, 0), Page: int32(size + 1)} //nolint:gosec // at most 1001
	filter := pg.FilterHash("expiring", tenant, fmt.Sprint(days))
	_, err := pg.DecodePageToken(req.GetPageToken(), filter, &list.AfterTime, &list.AfterID)
	if err != nil {
		return nil, err
	}
	resp := &signv1.ListExpiringCredentialsResponse{}
	err = s.db.Scoped(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		rows, err := q.ListExpiring(ctx, list)
		if err != nil {
			return fmt.Errorf("signer: list expiring: %w", err)
		}
		rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListExpiringRow) []any { return []any{r.NotAfter, r.ID} })
		if err != nil {
			return err
		}
		for _, r := range rows {
			c, err := q.GetCredential(ctx, r.ID)
			if err != nil {
				return fmt.Errorf("signer: read credential: %w", err)
			}
			m := &signv1.ExpiringCredential{Credential: credentialMessage(c), DaysLeft: int32(r.NotAfter.Sub(now) / (24 * time.Hour)), WarnedDays: r.WarnedDays} //nolint:gosec // days
			if r.WarnedDays > 0 {
				m.WarnTime = timestamppb.New(r.WarnedAt)
			}
			resp.Credentials = append(resp.Credentials, m)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
