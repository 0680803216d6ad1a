package signer_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/signer/internal/db"
)

// TestUnrecordedInvoicesAreFound: an invoice that was signed and that no row took is known, and the next run has it recorded.
func TestUnrecordedInvoicesAreFound(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.credential(t, company, automatic, p256)
	h.exec(t, `CREATE FUNCTION untaken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$`)
	h.exec(t, `CREATE TRIGGER untaken BEFORE UPDATE ON signature FOR EACH ROW WHEN (NEW.state = 'DONE') EXECUTE FUNCTION untaken()`)
	doc := []byte("<fattura>of somebody</fattura>")
	subject := h.probe.accept(t, true, doc, 1)
	noted := func() (files [][]byte) {
		require.NoError(t, h.DB("signer").Tx(t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `SELECT sha256 FROM made_file WHERE original_sha256 = $1`, hashOf(doc))
			if err != nil {
				return err
			}
			files, err = pgx.CollectRows(rows, pgx.RowTo[[]byte])
			return err
		}))
		return files
	}
	eventually(t, "what was signed is written down", func() bool { return len(noted()) > 0 })
	before := noted()
	h.exec(t, `DROP TRIGGER untaken ON signature`)
	eventually(t, "it is told", func() bool { return len(h.probe.signedOf(subject)) == 1 })
	require.Len(t, before, 1, "each run takes up the file of the first")
	require.Equal(t, before[0], h.probe.signedOf(subject)[0].GetSigned().GetSha256())
	require.Empty(t, noted(), "what a row names need not be noted")
}

// TestMadeFilesAreFound: files that hold a document and whose request was not recorded are in the store; they are found with
// the document when it is destroyed, and nobody needs them once nobody can be making them.
func TestMadeFilesAreFound(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	m := d.mandate(t, 10, 10, attached)
	doc := []byte("a contract with names in it")
	req := d.request(m, attached, doc)
	d.exec(t, `CREATE FUNCTION unrecorded() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not recorded'; END $$`)
	d.exec(t, `CREATE TRIGGER unrecorded BEFORE UPDATE ON document_signing FOR EACH ROW EXECUTE FUNCTION unrecorded()`)
	_, err := d.api.SignDocuments(t.Context(), req)
	require.Error(t, err)
	store := d.DB("signer")
	found := func() (rows []db.SignedOfRow) {
		require.NoError(t, store.Tx(t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			var err error
			rows, err = db.New(tx).SignedOf(ctx, db.SignedOfParams{TenantID: "acme", Sums: [][]byte{hashOf(doc)}})
			return err
		}))
		return rows
	}
	needed := func(sum []byte, begunAfter time.Time) (n int) {
		require.NoError(t, store.Tx(t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			rows, err := db.New(tx).NeedsOf(ctx, db.NeedsOfParams{TenantID: "acme", Sums: [][]byte{sum}, Now: pg.Time(time.Now()), BegunAfter: pg.Time(begunAfter)})
			n = len(rows)
			return err
		}))
		return n
	}
	left := found()
	require.Len(t, left, 1)
	ref := blob.Ref{Tenant: "acme", SHA256: [32]byte(left[0].SignedSha256), Size: left[0].SignedSize}
	file, err := d.probe.host.Blobs.Get(t.Context(), ref)
	require.NoError(t, err)
	d.opensslAccepts(t, file, doc)
	require.Equal(t, 1, needed(left[0].SignedSha256, time.Now().Add(-time.Hour)), "it may be about to be recorded")
	require.Zero(t, needed(left[0].SignedSha256, time.Now().Add(time.Second)))

	d.exec(t, `DROP TRIGGER unrecorded ON document_signing`)
	time.Sleep(1100 * time.Millisecond) // signing-time has whole seconds: the next file is another one for sure
	got := d.sign(t, req)[0]
	require.NotEqual(t, file, got)
	both := map[string]bool{}
	for _, row := range found() {
		require.Equal(t, hashOf(doc), row.OriginalSha256)
		both[string(row.SignedSha256)] = true
	}
	require.Equal(t, map[string]bool{string(hashOf(file)): true, string(hashOf(got)): true}, both)
	var noted int
	require.NoError(t, store.Tx(t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM made_file`).Scan(&noted)
	}))
	require.Equal(t, 1, noted, "what a row names need not be noted")
}
