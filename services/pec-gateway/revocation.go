package pecgateway

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// maxRevocationLists bounds how many are asked about each signature; the newest are.
const maxRevocationLists = 200

// revocationLists reads lists of revoked certificates, DER or PEM. Faults: Invalid REVOCATION_LIST_INVALID.
func revocationLists(given [][]byte) ([]*x509.RevocationList, error) {
	var out []*x509.RevocationList
	for i, raw := range given {
		if block, _ := pem.Decode(raw); block != nil {
			raw = block.Bytes
		}
		list, err := x509.ParseRevocationList(raw)
		if err != nil {
			return nil, badRevocationList(i, err)
		}
		out = append(out, list)
	}
	return out, nil
}

func badRevocationList(i int, err error) error {
	field := fmt.Sprintf("revocation_lists[%d]", i)
	return fault.Invalid("REVOCATION_LIST_INVALID", "%s: %v", field, err).WithField(field, "REVOCATION_LIST_INVALID", "is none, or of an authority that is not known")
}

// keepRevocationLists adds lists that a person gave.
func (s *Service) keepRevocationLists(ctx context.Context, tx pgx.Tx, lists []*x509.RevocationList) (int32, error) {
	return s.keepListsFrom(ctx, tx, "", lists)
}

// keepListsFrom adds lists that a known authority signed, and says how many are new.
func (s *Service) keepListsFrom(ctx context.Context, tx pgx.Tx, from string, lists []*x509.RevocationList) (int32, error) {
	if len(lists) == 0 {
		return 0, nil
	}
	rows, err := q(tx).ListAuthorities(ctx)
	if err != nil {
		return 0, err
	}
	added := int32(0)
	for i, list := range lists {
		err := errors.New("no authority of the list signed it: import the authority first")
		for _, r := range rows {
			authority, parseErr := x509.ParseCertificate(r.Certificate)
			if parseErr == nil && list.CheckSignatureFrom(authority) == nil {
				err = nil
				break
			}
		}
		if err != nil {
			return 0, badRevocationList(i, err)
		}
		sum := sha256.Sum256(list.Raw)
		n, err := q(tx).InsertRevocationList(ctx, db.InsertRevocationListParams{
			Sha256: hex.EncodeToString(sum[:]), Issuer: trim(list.Issuer.String(), 1000), List: list.Raw, ThisUpdate: pg.Time(list.ThisUpdate),
			NextUpdate: moment(list.NextUpdate), CreateTime: pg.Time(s.now()), Source: from,
		})
		if err != nil {
			return 0, err
		}
		added += int32(n) //nolint:gosec // 0 or 1
	}
	return added, nil
}

// loadRevocationLists reads those that are asked.
func loadRevocationLists(ctx context.Context, tx pgx.Tx) ([]*x509.RevocationList, error) {
	rows, err := q(tx).ListRevocationLists(ctx, maxRevocationLists)
	if err != nil {
		return nil, err
	}
	var out []*x509.RevocationList
	for _, r := range rows {
		list, err := x509.ParseRevocationList(r.List)
		if err != nil {
			return nil, fmt.Errorf("pec-gateway: revocation list %s of the trust list: %w", r.Sha256, err)
		}
		out = append(out, list)
	}
	return out, nil
}
