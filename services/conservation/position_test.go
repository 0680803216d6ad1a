package conservation

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
)

// dump backs the archive's database up with PostgreSQL's own program, and gives what puts it back: the archive is not running then.
func (w *ward) dump() (putBack func()) {
	w.t.Helper()
	file, at, schema := filepath.Join(w.t.TempDir(), "backup.sql"), w.db.Config().URL, w.db.Schema()
	tool(w.t, databaseTool("pg_dump"), "--dbname", at, "--schema", schema, "--file", file)
	return func() {
		w.t.Helper()
		require.Nil(w.t, w.cmd, "the archive runs")
		w.sql(`DROP SCHEMA "` + schema + `" CASCADE`)
		tool(w.t, databaseTool("psql"), "--dbname", at, "--no-psqlrc", "--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1", "--file", file)
	}
}

// databaseTool is one of PostgreSQL's programs, which Debian keeps beside the server's.
func databaseTool(name string) string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // the pattern is good
	if len(found) == 0 {
		return name
	}
	return found[len(found)-1]
}

func (w *ward) check(kind conservationv1.CheckKind, tenant string) {
	w.t.Helper()
	api := conservationv1.NewCheckServiceClient(w.operator)
	started, err := api.RunCheck(context.Background(), &conservationv1.RunCheckRequest{Kind: kind, Tenant: tenant})
	require.NoError(w.t, err)
	w.await(w.t, "the report", func() bool {
		return w.count("SELECT count(*) FROM archive_report WHERE id = '"+lastOf(started.GetName())+"' AND state <> 'RUNNING'") == 1
	})
	var state, content string
	require.NoError(w.t, w.admin.QueryRow(context.Background(), `SELECT state, convert_from(content, 'UTF8') FROM archive_report WHERE id = $1`, lastOf(started.GetName())).Scan(&state, &content))
	require.Equal(w.t, "GOOD", state, content)
}

// holdings is what the archive has: units with their ids, where they are, and packages.
func (w *ward) holdings() (text string) {
	w.t.Helper()
	require.NoError(w.t, w.admin.QueryRow(context.Background(), `
		SELECT concat_ws(E'\n', (SELECT string_agg(concat_ws('|', u.id, u.unit_key, u.subject, u.state, u.package_id, u.position, f.ordinal, f.role, encode(f.sha256, 'hex')), E'\n' ORDER BY u.id, f.ordinal)
			FROM unit u JOIN unit_file f ON f.unit_id = u.id),
			(SELECT string_agg(concat_ws('|', id, number, state, unit_count, encode(archive_sha256, 'hex'), stamp_time), E'\n' ORDER BY id) FROM package))`).Scan(&text))
	return text
}

// TestDatabaseBehindItsReplicas: the database is put back from a backup. The archive finds by the marks in its replicas that they are
// ahead, begins nothing, and says so; once check restore was run everything is as it was, under the ids that its owners know, and what
// waited goes on without a person.
func TestDatabaseBehindItsReplicas(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	ctx := context.Background()
	var events []*invoicev1.InvoiceSettled
	for i := range 5 {
		events = append(events, w.invoice(t, i))
	}
	units := func(n int) func() bool { return func() bool { return w.count("SELECT count(*) FROM unit") == n } }
	w.settleAll(t, events[:2])
	w.await(t, "taken", units(2))
	_, err := w.client.ClosePackage(ctx, closing())
	require.NoError(t, err)
	w.await(t, "sealed", func() bool { return w.count("SELECT count(*) FROM package WHERE state = 'SEALED'") == 1 })
	// As it was between the closing of a package and its sealing.
	w.stopAt(boundaries[8])
	w.settleAll(t, events[2:3])
	w.await(t, "taken", units(3))
	_, err = w.client.ClosePackage(ctx, closing())
	require.NoError(t, err)
	w.await(t, "the index is being written", w.reached)
	putBack := w.dump()
	w.die(boundaries[8])

	w.settleAll(t, events[3:])
	w.await(t, "taken", units(5))
	w.await(t, "sealed", func() bool { return w.count("SELECT count(*) FROM package WHERE state = 'SEALED'") == 2 })
	_, err = w.client.ClosePackage(ctx, closing())
	require.NoError(t, err)
	w.await(t, "sealed", func() bool { return w.count("SELECT count(*) FROM package WHERE state = 'SEALED'") == 3 })
	before := w.holdings()
	marks := w.count("SELECT number FROM archive_position")
	require.Equal(t, 2, marks, "each start is a mark")

	w.kill()
	putBack()
	w.sql("DROP TRIGGER test_boundary ON package", "DROP FUNCTION test_boundary()") // it was backed up too
	require.NotEqual(t, before, w.holdings())
	require.Equal(t, 1, w.count("SELECT number FROM archive_position"))
	w.run()
	storage := conservationv1.NewStorageServiceClient(w.operator)
	w.await(t, "it is found out", func() bool {
		got, err := storage.GetStorage(ctx, &conservationv1.GetStorageRequest{})
		require.NoError(t, err)
		return got.GetBehindSince() != nil
	})
	w.settleAll(t, append(events, w.invoice(t, 5))) // all of them come again, as after other services were put back too, and a new one
	_, err = w.client.ClosePackage(ctx, closing())
	require.Equal(t, archiveBehind, code(err), "%v", err)
	require.ErrorContains(t, err, "ceralacca conserve check restore")
	w.await(t, "what was closed waits", func() bool {
		return w.count("SELECT count(*) FROM package WHERE state = 'CLOSED' AND last_error LIKE '%ARCHIVE_BEHIND%'") == 1
	})
	w.await(t, "the events were tried", func() bool { return strings.Count(w.said(), archiveBehind) > 3 })
	require.Equal(t, 3, w.count("SELECT count(*) FROM unit"), "nothing is taken in")
	w.check(restoreKind, "tenants/acme")
	require.Equal(t, 1, w.count("SELECT count(*) FROM archive_position WHERE behind_at IS NOT NULL"), "one tenant is not all of them")
	w.check(restoreKind, "")
	require.Zero(t, w.count("SELECT count(*) FROM archive_position WHERE behind_at IS NOT NULL"))
	require.Greater(t, w.count("SELECT number FROM archive_position"), marks)
	w.await(t, "what waited is taken in", units(6))
	w.settleAll(t, events[:1]) // behind all of them
	w.await(t, "all are answered", func() bool { return w.count("SELECT count(*) FROM inbox WHERE consumer = 'intake'") >= 3+7 })
	require.Zero(t, w.count("SELECT count(*) FROM parked_event"), "none was parked")
	fresh := w.count("SELECT count(*) FROM unit WHERE state = 'TAKEN_IN_CHARGE'")
	require.Equal(t, 1, fresh, "the new one")
	w.sql(`SET session_replication_role = replica`, `DELETE FROM unit_file WHERE unit_id IN (SELECT id FROM unit WHERE state = 'TAKEN_IN_CHARGE')`,
		`DELETE FROM unit WHERE state = 'TAKEN_IN_CHARGE'`, `RESET session_replication_role`)
	require.Equal(t, before, w.holdings(), "and the others are what they were")
}

// TestSameEventSameUnit: what was added after the last mark is forgotten without being found out. The same event gives its document the
// same id again, so that the receipts that its owner has speak of it, and restore finds nothing to contradict.
func TestSameEventSameUnit(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	putBack := w.dump()
	var events []*invoicev1.InvoiceSettled
	for i := range 3 {
		events = append(events, w.invoice(t, i))
	}
	w.settleAll(t, events)
	w.await(t, "taken", func() bool { return w.count("SELECT count(*) FROM unit") == 3 })
	before := w.holdings()
	w.kill()
	putBack()
	require.Zero(t, w.count("SELECT count(*) FROM unit"))
	w.redeliver("conservation_intake")
	w.run()
	w.await(t, "taken again", func() bool { return w.count("SELECT count(*) FROM unit") == 3 })
	require.Equal(t, before, w.holdings())
	w.check(restoreKind, "")
	require.Equal(t, before, w.holdings())
}

// redeliver has the broker hand over everything again that a consumer had.
func (w *ward) redeliver(consumer string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := nats.Connect(w.nats)
	require.NoError(w.t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(w.t, err)
	gone := 0
	for stream := range js.ListStreams(ctx).Info() {
		if js.DeleteConsumer(ctx, stream.Config.Name, consumer) == nil {
			gone++
		}
	}
	require.Equal(w.t, 1, gone)
}
