package pecgateway

import (
	"context"
	"io/fs"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/migrations"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// TestMailboxesOfBefore: keys that an earlier release let onto the list of a mailbox by their id have their whole name after it, once and
// with the right that the whole name had; what is no key's id stays. A password is as old as the audit records tell, where they reach back to
// the mailbox's beginning and nobody stated a day since, and otherwise as the terms of its mailbox said.
func TestMailboxesOfBefore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	admin := pgtest.Admin(t, pgtest.Schema(t, "pec-gateway"))
	drop := func() {
		_, err := admin.Exec(context.Background(), `DROP SCHEMA IF EXISTS mailboxes_of_before CASCADE; DROP ROLE IF EXISTS mailboxes_of_before_role`)
		require.NoError(t, err)
	}
	drop()
	t.Cleanup(drop)
	migrate := func(files fs.FS) {
		require.NoError(t, pg.MigrateSchema(ctx, pg.MigrateConfig{URL: admin.Config().ConnString(), Service: "pec-gateway", Schema: "mailboxes_of_before", Role: "mailboxes_of_before_role", FS: files}))
	}
	_, err := admin.Exec(ctx, "SET search_path = mailboxes_of_before")
	require.NoError(t, err)
	migrate(migrationsUpTo(t, "0130"))
	_, err = admin.Exec(ctx, `INSERT INTO mailbox (tenant_id, id, address, address_key, provider, username, access, state, next_poll_time, create_time, update_time)
		SELECT 'acme', md5(x)::uuid, x, x, 'generic', x, 1, 1, now(), now(), now() FROM unnest(ARRAY['a', 'b']) x;
		INSERT INTO mailbox_grant (tenant_id, mailbox_id, caller, entitled) VALUES ('acme', md5('a')::uuid, 'key:one', 1), ('acme', md5('a')::uuid, 'key:two', 3),
			('acme', md5('a')::uuid, 'key:tenants/acme/apiKeys/two', 2), ('acme', md5('b')::uuid, 'oidc:anna', 3), ('acme', md5('b')::uuid, 'key:tenants/acme/apiKeys/one', 1);
		INSERT INTO mailbox_policy (tenant_id, mailbox_id, policy, password_time) VALUES ('acme', md5('a')::uuid, '{}', '2026-05-06 07:08:09Z')`)
	require.NoError(t, err)
	_, err = admin.Exec(ctx, `INSERT INTO mailbox (tenant_id, id, address, address_key, provider, username, access, state, next_poll_time, create_time, update_time)
		SELECT 'acme', md5(x)::uuid, x, x, 'generic', x, 1, 1, now(), '2026-01-02 03:04:05Z', now() FROM unnest(ARRAY['changed', 'never', 'later', 'stated', 'exact']) x;
		INSERT INTO mailbox_policy (tenant_id, mailbox_id, policy, password_days, password_time, warned_password)
		SELECT 'acme', md5(x)::uuid, '{}', 90, '2026-05-06 07:08:09Z', 30 FROM unnest(ARRAY['changed', 'never', 'later', 'stated', 'exact']) x;
		INSERT INTO audit_entry (id, tenant_id, at, actor, action, resource, outcome)
		SELECT gen_random_uuid(), 'acme', at::timestamptz, 'key:x', action, 'tenants/acme/mailboxes/' || md5(x)::uuid, 'ok' FROM (VALUES
			('changed', '2026-01-02 03:04:05Z', 'mailbox.create'), ('changed', '2026-02-03 04:05:06Z', 'mailbox.password'), ('changed', '2026-03-04 05:06:07Z', 'mailbox.password'),
			('never', '2026-01-02 03:04:05Z', 'mailbox.create'), ('later', '2026-03-04 05:06:07Z', 'mailbox.password'),
			('stated', '2026-01-02 03:04:05Z', 'mailbox.create'), ('exact', '2026-01-02 03:04:05Z', 'mailbox.create'), ('exact', '2026-05-06 07:08:08Z', 'mailbox.password')) v(x, at, action)`)
	require.NoError(t, err)
	migrate(migrationsUpTo(t, "0133"))
	_, err = admin.Exec(ctx, `UPDATE mailbox_policy SET password_time = '2026-04-05 00:00:00Z' WHERE mailbox_id = md5('stated')::uuid`)
	require.NoError(t, err)
	migrate(migrations.FS)
	texts := func(sql string) []string {
		rows, err := admin.Query(ctx, sql)
		require.NoError(t, err)
		out, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return out
	}
	require.Equal(t, []string{"a key:tenants/acme/apiKeys/one 1", "a key:tenants/acme/apiKeys/two 2", "b key:tenants/acme/apiKeys/one 1", "b oidc:anna 3"},
		texts(`SELECT m.address || ' ' || g.caller || ' ' || g.entitled FROM mailbox_grant g JOIN mailbox m ON m.id = g.mailbox_id ORDER BY 1`))
	day := func(column string) string {
		return "coalesce(to_char(" + column + " AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), '-')"
	}
	require.Equal(t, []string{
		"a 2026-05-06 07:08:09 2026-05-06 07:08:09 -", "b - - -",
		"changed 2026-03-04 05:06:07 2026-03-04 05:06:07 -", "exact 2026-05-06 07:08:09 2026-05-06 07:08:09 30", "later 2026-05-06 07:08:09 2026-05-06 07:08:09 30",
		"never 2026-01-02 03:04:05 2026-01-02 03:04:05 -", "stated 2026-05-06 07:08:09 2026-04-05 00:00:00 30",
	}, texts(`SELECT m.address || ' ' || `+day("m.password_time")+` || ' ' || `+day("p.password_time")+` || ' ' || coalesce(p.warned_password::text, '-')
		FROM mailbox m LEFT JOIN mailbox_policy p ON p.tenant_id = m.tenant_id AND p.mailbox_id = m.id ORDER BY 1`))
}
