package invoice

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa/render"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/invoice/internal/db"
)

// GetLook reads how the documents of a company look: the defaults where nothing was set. NotFound
// COMPANY_NOT_FOUND.
func (s *Service) GetLook(ctx context.Context, req *invoicev1.GetLookRequest) (*invoicev1.Look, error) {
	tenant, company := lookName(req.GetName())
	if err := s.companyExists(ctx, tenant, company); err != nil {
		return nil, err
	}
	resp := &invoicev1.Look{}
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err := lookOf(ctx, tx, tenant, company)
		if err != nil {
			return err
		}
		return fillLook(resp, &row)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// lookOf is the look of a company; version 0, with every field empty, when nothing was set.
func lookOf(ctx context.Context, tx pgx.Tx, tenant, company string) (db.Look, error) {
	row, err := q(tx).GetLook(ctx, db.GetLookParams{TenantID: tenant, CompanyID: company})
	if errors.Is(err, pgx.ErrNoRows) {
		return db.Look{TenantID: tenant, CompanyID: company}, nil
	}
	if err != nil {
		return row, fmt.Errorf("invoice: read look of %s: %w", company, err)
	}
	return row, nil
}

// lookName takes tenants/{tenant}/companies/{company}/look apart; what is no such name has no company.
func lookName(name string) (tenant, company string) {
	p := strings.Split(name, "/")
	if len(p) != 5 || name != "tenants/"+p[1]+"/companies/"+p[3]+"/look" {
		return "", ""
	}
	return p[1], p[3]
}

func (s *Service) companyExists(ctx context.Context, tenant, company string) error {
	_, err := s.companies.get(ctx, "tenants/"+tenant+"/companies/"+company)
	return err
}

var changeableOfLook = []string{"logo", "accent_color", "language_code"}

// UpdateLook changes what the mask names, or all that is set without one. Invalid LOOK_INVALID for a
// logo that is no sound picture and for a colour that cannot be read on white; UPDATE_MASK_INVALID;
// Aborted ETAG_MISMATCH; NotFound COMPANY_NOT_FOUND.
func (s *Service) UpdateLook(ctx context.Context, req *invoicev1.UpdateLookRequest) (*invoicev1.Look, error) {
	in := req.GetLook()
	tenant, company := lookName(in.GetName())
	if company == "" {
		return nil, fault.Invalid("NAME_INVALID", "look.name: %q is not tenants/{tenant}/companies/{company}/look", in.GetName()).
			WithField("look.name", "NAME_INVALID", "is no name of a look")
	}
	paths, err := changedPaths(in, req.GetUpdateMask().GetPaths(), changeableOfLook)
	if err != nil {
		return nil, err
	}
	if err := checkLook(in); err != nil {
		return nil, err
	}
	if err := s.companyExists(ctx, tenant, company); err != nil {
		return nil, err
	}
	resp, now := &invoicev1.Look{}, pg.Time(s.now())
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, invoicev1.BookService_UpdateLook_FullMethodName, req.GetRequestId(), req, resp, func() error {
			row, err := lockLook(ctx, tx, tenant, company, now)
			if err != nil {
				return err
			}
			if err := sameEtag(in.GetEtag(), lookEtag(row.Version), "look.etag", in.GetName()); err != nil {
				return err
			}
			stored := &invoicev1.Look{Logo: row.Logo, AccentColor: row.AccentColor, LanguageCode: row.LanguageCode}
			copyPaths(stored, in, paths)
			row.Logo, row.AccentColor, row.LanguageCode = append([]byte{}, stored.GetLogo()...), stored.GetAccentColor(), stored.GetLanguageCode()
			row.Version++
			row.UpdateTime = now
			err = q(tx).UpdateLook(ctx, db.UpdateLookParams{Logo: row.Logo, AccentColor: row.AccentColor, LanguageCode: row.LanguageCode,
				Version: row.Version, UpdateTime: row.UpdateTime, TenantID: tenant, CompanyID: company})
			if err != nil {
				return fmt.Errorf("invoice: write %s: %w", in.GetName(), err)
			}
			if err := fillLook(resp, &row); err != nil {
				return err
			}
			return auditEntry(ctx, tx, "look.update", in.GetName(), paths)
		})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func lockLook(ctx context.Context, tx pgx.Tx, tenant, company string, now time.Time) (db.Look, error) {
	err := q(tx).InsertDefaultLook(ctx, db.InsertDefaultLookParams{TenantID: tenant, CompanyID: company, UpdateTime: now})
	if err != nil {
		return db.Look{}, fmt.Errorf("invoice: default look of %s: %w", company, err)
	}
	row, err := q(tx).LockLook(ctx, db.LockLookParams{TenantID: tenant, CompanyID: company})
	if err != nil {
		return row, fmt.Errorf("invoice: lock look of %s: %w", company, err)
	}
	return row, nil
}

// lookEtag names a version of a look; a look is never deleted. spec: AIP-154
func lookEtag(version int32) string { return strconv.Quote(strconv.Itoa(int(version))) }

// fillLook shows what holds, defaults included.
func fillLook(l *invoicev1.Look, row *db.Look) error {
	accent, err := render.Readable(row.AccentColor)
	if err != nil {
		return fmt.Errorf("invoice: stored colour of %s: %w", row.CompanyID, err)
	}
	if row.AccentColor != "" {
		accent = row.AccentColor
	}
	l.Name = "tenants/" + row.TenantID + "/companies/" + row.CompanyID + "/look"
	l.Logo, l.AccentColor, l.LanguageCode, l.Etag = row.Logo, accent, row.LanguageCode, lookEtag(row.Version)
	if l.GetLanguageCode() == "" {
		l.LanguageCode = "it"
	}
	if row.Version > 0 {
		l.UpdateTime = timestamppb.New(row.UpdateTime)
	}
	return nil
}
