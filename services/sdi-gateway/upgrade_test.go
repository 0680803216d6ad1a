package sdigateway_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// savedBefore is how a gateway before migration 0050 kept what a support brought: its statement names a constraint that
// the migration replaces.
const savedBefore = `INSERT INTO support_document (id, support_id, type, file_name, sha256, raw, received_at, problem)
SELECT gen_random_uuid(), gen_random_uuid(), 'RC', 'IT01234567897_00001_RC_001.xml', '\x00'::bytea, '\x00'::bytea, now(), ''
ON CONFLICT (file_name, sha256) DO NOTHING`

// A gateway that is older than the schema fails to unpack a support, keeps nothing of it by halves, and its job is
// tried again: what SdI put is a row and a blob already, and any newer gateway reads it.
func TestOlderGatewayMeetsNewerSchema(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, "sdi-gateway")
	err := db.System(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, savedBefore)
		return pg.Error(err)
	})
	var refused *pgconn.PgError
	require.True(t, errors.As(err, &refused), "%v", err)
	require.Equal(t, "42P10", refused.Code, "no such constraint")
	require.False(t, fault.Permanent(err), "the job is tried again and not parked at once")
}
