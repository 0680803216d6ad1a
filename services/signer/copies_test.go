package signer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/signer/internal/db"
)

// TestWhoNeedsSignedBytes: what was signed for a document by name, or is known by its bytes alone, is found from either of its forms,
// and needed until the last document goes that it belongs to; what is open, or was signed after the destruction, needs its own.
func TestWhoNeedsSignedBytes(t *testing.T) {
	t.Parallel()
	base := pgtest.Schema(t, "signer")
	admin := pgtest.Admin(t, base)
	sum := func(text string) []byte { s := sha256.Sum256([]byte(text)); return s[:] }
	exec := func(sql string, args ...any) {
		_, err := admin.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	for subject, files := range map[string][2]string{"a": {"shared", "a signed"}, "b": {"shared", "b signed"}} {
		exec(`INSERT INTO signature (id, tenant_id, company_id, purpose, subject, original_sha256, original_size, state, signed_sha256, signed_size, signing_time, created_at)
			VALUES ($1, 'acme', 'main', 'INVOICE', $2, $3, 6, 'DONE', $4, 8, now(), now())`, uuid.New(), subject, sum(files[0]), sum(files[1]))
	}
	request := func(state string, at time.Time, docs ...string) {
		id := uuid.New()
		var closed *time.Time
		if state != "OPEN" {
			closed = &at
		}
		exec(`INSERT INTO signing_request (id, tenant_id, title, requester, state, step, needs, deadline, head, created_at, closed_at) VALUES ($1, 'acme', 't', 'r', $2, 0, '{1}', now(), $3, $4, $5)`, id, state, sum("head"), at, closed)
		if state != "OPEN" {
			exec(`UPDATE signing_request SET bundle_sha256 = $2, bundle_size = 3, bundled_at = now() WHERE id = $1`, id, sum("bundle"))
		}
		for i, d := range docs {
			exec(`INSERT INTO signing_request_document (request_id, position, tenant_id, name, form, original_sha256, original_size, signed_sha256, signed_size) VALUES ($1, $2, 'acme', 'd', 'PADES', $3, 4, $4, 5)`, id, i+1, sum(d), sum(d+" signed"))
		}
	}
	before, at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2037, 1, 1, 0, 0, 0, 0, time.UTC)
	request("COMPLETED", before, "x", "y")
	request("OPEN", before, "z")
	destroy := func(subjects []string, sums ...[]byte) (pairs []db.SignedOfRow) {
		require.NoError(t, base.Tx(t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			q := db.New(tx)
			require.NoError(t, q.BurySignatures(ctx, db.BurySignaturesParams{TenantID: "acme", Subjects: subjects, DestroyedBy: "d"}))
			named, err := q.SignaturesOf(ctx, db.SignaturesOfParams{TenantID: "acme", Subjects: subjects})
			require.NoError(t, err)
			require.Len(t, named, len(subjects))
			pairs, err = q.SignedOf(ctx, db.SignedOfParams{TenantID: "acme", Sums: sums})
			require.NoError(t, err)
			for _, p := range pairs {
				sums = append(sums, p.OriginalSha256, p.SignedSha256)
			}
			if len(pairs) > 0 {
				bundles, err := q.BundlesOf(ctx, db.BundlesOfParams{TenantID: "acme", Sums: sums})
				require.NoError(t, err)
				require.Len(t, bundles, 1)
			}
			return q.NoteDestroyedBytes(ctx, db.NoteDestroyedBytesParams{TenantID: "acme", Sums: distinct(sums), DestroyedBy: "d", At: at})
		}))
		return pairs
	}
	needs := func(tenant string, texts ...string) map[string]int64 {
		out := map[string]int64{}
		require.NoError(t, base.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
			for _, text := range texts {
				rows, err := db.New(tx).NeedsOf(ctx, db.NeedsOfParams{TenantID: tenant, Sums: [][]byte{sum(text)}, Now: at, BegunAfter: at.Add(-time.Hour)})
				require.NoError(t, err)
				for _, r := range rows {
					out[text] = r.Others
				}
			}
			return nil
		}))
		return out
	}
	all := []string{"shared", "a signed", "b signed", "x", "x signed", "y", "y signed", "bundle", "z", "z signed"}
	require.Empty(t, needs("other", all...))
	require.Len(t, needs("acme", all...), len(all))
	destroy([]string{"a"})
	require.Equal(t, map[string]int64{"shared": 1, "b signed": 1}, needs("acme", all[:3]...))
	destroy([]string{"b"})
	require.Empty(t, needs("acme", all[:3]...))

	require.Len(t, destroy(nil, sum("x signed")), 1, "the unsigned form is found by the signed one")
	require.Equal(t, map[string]int64{"y": 1, "y signed": 1, "bundle": 1}, needs("acme", all[3:8]...))
	require.Len(t, destroy(nil, sum("y")), 1, "and the signed one by the unsigned")
	require.Empty(t, needs("acme", all[3:8]...))
	require.Empty(t, destroy(nil, sum("z")), "an open request lets nothing go")
	require.Len(t, needs("acme", "z", "z signed"), 2)
	request("COMPLETED", at.Add(time.Hour), "x") // signed anew afterwards
	require.Equal(t, map[string]int64{"x": 1, "x signed": 1, "bundle": 1}, needs("acme", all[3:8]...))
}

// TestWhoNeedsUnrecordedBundles: a bundle that was written down and not recorded is found by each document that is in it, and needed
// for as long as somebody may be about to record it.
func TestWhoNeedsUnrecordedBundles(t *testing.T) {
	t.Parallel()
	base := pgtest.Schema(t, "signer")
	admin := pgtest.Admin(t, base)
	sum := func(text string) []byte { s := sha256.Sum256([]byte(text)); return s[:] }
	exec := func(sql string, args ...any) {
		_, err := admin.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	id, at := uuid.New(), time.Date(2037, 1, 1, 0, 0, 0, 0, time.UTC)
	exec(`INSERT INTO signing_request (id, tenant_id, title, requester, state, step, needs, deadline, head, created_at, closed_at) VALUES ($1, 'acme', 't', 'r', 'COMPLETED', 0, '{1}', $3, $2, $3, $3)`, id, sum("head"), at)
	for i, d := range []string{"x", "y"} {
		exec(`INSERT INTO signing_request_document (request_id, position, tenant_id, name, form, original_sha256, original_size, signed_sha256, signed_size) VALUES ($1, $2, 'acme', 'd', 'PADES', $3, 4, $4, 5)`, id, i+1, sum(d), sum(d+" signed"))
	}
	exec(`INSERT INTO made_bundle (tenant_id, sha256, size, request_id, head, sealed, stamped, note, made_at) VALUES ('acme', $1, 3, $2, $3, true, false, '', $4)`, sum("bundle"), id, sum("head"), at)
	in := func(tenant string, do func(ctx context.Context, q *db.Queries)) {
		require.NoError(t, base.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error { do(ctx, db.New(tx)); return nil }))
	}
	for _, of := range []string{"x", "x signed", "y", "y signed"} {
		in("acme", func(ctx context.Context, q *db.Queries) {
			rows, err := q.BundlesOf(ctx, db.BundlesOfParams{TenantID: "acme", Sums: [][]byte{sum(of)}})
			require.NoError(t, err)
			require.Equal(t, []db.BundlesOfRow{{BundleSha256: sum("bundle"), BundleSize: 3}}, rows, of)
		})
	}
	needed := func(tenant string, begunAfter time.Time) (n int) {
		in(tenant, func(ctx context.Context, q *db.Queries) {
			rows, err := q.NeedsOf(ctx, db.NeedsOfParams{TenantID: tenant, Sums: [][]byte{sum("bundle")}, Now: at, BegunAfter: begunAfter})
			require.NoError(t, err)
			n = len(rows)
		})
		return n
	}
	require.Equal(t, 1, needed("acme", at.Add(-time.Hour)))
	require.Zero(t, needed("acme", at))
	require.Zero(t, needed("other", at.Add(-time.Hour)))
}

// TestNotesOfEndedWorkAreForgotten: of what was written down before it was stored, the notes go that nothing needs, in pages: those of
// files that a row names since, and of files that the store does not have. What is there and named by nothing else stays, and so does what
// somebody may be about to record.
func TestNotesOfEndedWorkAreForgotten(t *testing.T) {
	t.Parallel()
	base := pgtest.Schema(t, "signer")
	admin := pgtest.Admin(t, base)
	dir := filepath.Join(t.TempDir(), "blobs")
	store, err := blob.OpenFS(dir)
	require.NoError(t, err)
	now := time.Date(2037, 1, 1, 0, 0, 0, 0, time.UTC)
	old, late, young := now.Add(-noteLasts), now.Add(-noteLasts).Add(time.Microsecond), now.Add(-time.Minute)
	s := &Service{db: base, blobs: store, now: func() time.Time { return now }, log: slog.New(slog.DiscardHandler)}
	sum := func(text string) []byte { s := sha256.Sum256([]byte(text)); return s[:] }
	exec := func(sql string, args ...any) {
		_, err := admin.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	var want []string
	// file is a note of a file; stored: it is there; stays: the note is needed.
	file := func(tenant, original, text string, at time.Time, stored, stays bool) {
		if stored {
			_, err := store.Put(t.Context(), tenant, []byte(text))
			require.NoError(t, err)
		}
		if stays {
			want = append(want, text)
		}
		exec(`INSERT INTO made_file (tenant_id, sha256, original_sha256, size, made_at) VALUES ($1, $2, $3, $4, $5)`, tenant, sum(text), sum(original), len(text), at)
	}
	bundle := func(request uuid.UUID, text string, at time.Time, stored, stays bool) {
		if stored {
			_, err := store.Put(t.Context(), "acme", []byte(text))
			require.NoError(t, err)
		}
		if stays {
			want = append(want, text)
		}
		exec(`INSERT INTO made_bundle (tenant_id, sha256, size, request_id, head, sealed, stamped, note, made_at) VALUES ('acme', $1, 3, $2, $3, true, false, '', $4)`, sum(text), request, sum("head"), at)
	}
	file("acme", "a", "never stored", old, false, false)
	file("acme", "a", "stored, nobody's", old, true, true)
	file("acme", "a", "not stored, a day not over", late, false, true)
	file("acme", "a", "not stored, in hand", young, false, true)
	_, err = store.Put(t.Context(), "other", []byte("of another tenant"))
	require.NoError(t, err)
	file("acme", "a", "of another tenant", old, false, false)
	file("other", "a", "stored, nobody's, of the other", old, true, true)

	file("acme", "an invoice", "an invoice signed", old, true, false)
	file("acme", "a", "an invoice that waits, signed", old, true, true)
	for state, text := range map[string]string{"DONE": "an invoice", "PENDING": "an invoice that waits"} {
		exec(`INSERT INTO signature (id, tenant_id, company_id, purpose, subject, original_sha256, original_size, state, signed_sha256, signed_size, signing_time, created_at)
			VALUES ($1, 'acme', 'main', 'INVOICE', $2, $3, 6, $4, $5, 8, now(), now())`, uuid.New(), text, sum(text), state, sum(text+" signed"))
	}
	request := uuid.New()
	exec(`INSERT INTO signing_request (id, tenant_id, title, requester, state, step, needs, deadline, head, created_at, closed_at, bundle_sha256, bundle_size, bundled_at)
		VALUES ($1, 'acme', 't', 'r', 'COMPLETED', 0, '{1}', $3, $2, $3, $3, $4, 3, $3)`, request, sum("head"), old, sum("the bundle"))
	exec(`INSERT INTO signing_request_document (request_id, position, tenant_id, name, form, original_sha256, original_size, signed_sha256, signed_size) VALUES ($1, 1, 'acme', 'd', 'PADES', $2, 4, $3, 5)`,
		request, sum("a lease"), sum("a lease signed"))
	file("acme", "a lease", "a lease", old, true, false)
	file("acme", "a lease", "a lease signed", old, true, false)
	file("acme", "a lease", "a lease signed by a run that died", old, true, true)
	bundle(request, "the bundle", old, true, false)
	bundle(request, "a bundle of a run that died", old, true, true)
	bundle(request, "a bundle that was never stored", old, false, false)
	bundle(request, "a bundle in hand", young, false, true)

	credential, mandate := uuid.New(), uuid.New()
	exec(`INSERT INTO credential (id, tenant_id, company_id, kind, common_name, key_type, state, key_name, created_at, updated_at) VALUES ($1, 'acme', 'main', 'SEAL', 'c', 'EC_P256', 'REVOKED', 'k', $2, $2)`, credential, old)
	exec(`INSERT INTO mandate (id, tenant_id, credential_id, description, forms, max_documents, max_per_day, valid_from, valid_until, created_at) VALUES ($1, 'acme', $2, 'm', '{PADES}', 9, 9, $3, $4, $3)`, mandate, credential, old, now)
	exec(`INSERT INTO document_signing (id, tenant_id, mandate_id, credential_id, request_id, output, hashes, state, signed_sha256, signed_sizes, signing_time, created_at, signed_at)
		VALUES ($1, 'acme', $2, $3, 'r', 'o', $4, 'SIGNED', $5, '{1,1}', $6, $6, $6)`, uuid.New(), mandate, credential, [][]byte{sum("m"), sum("n")}, [][]byte{sum("m signed"), sum("n signed")}, old)
	file("acme", "m", "m signed", old, true, false)
	file("acme", "m", "n signed", old, true, true) // a row names it, of another document

	const many = 2*notesAtOnce + 1
	for i := range many {
		file("acme", "a", fmt.Sprint("never stored ", i), old, false, false)
	}
	left := func() (out []string) {
		names := map[[32]byte]string{}
		for _, text := range want {
			names[[32]byte(sum(text))] = text
		}
		rows, err := admin.Query(t.Context(), `SELECT sha256 FROM made_file UNION ALL SELECT sha256 FROM made_bundle`)
		require.NoError(t, err)
		sums, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		require.NoError(t, err)
		for _, one := range sums {
			out = append(out, names[[32]byte(one)])
		}
		return out
	}
	require.NoError(t, os.Rename(dir, dir+".away"))
	for _, n := range s.writtenDown() {
		require.Error(t, n.turn(t.Context(), s), "of a store that is away nothing is known")
	}
	require.NoError(t, os.Rename(dir+".away", dir))
	turns := 0
	for _, n := range s.writtenDown() {
		for n.due.IsZero() {
			turns++
			require.NoError(t, n.turn(t.Context(), s))
		}
		require.NoError(t, n.turn(t.Context(), s), "the next round waits")
	}
	require.GreaterOrEqual(t, turns, 4, "in pages")
	require.ElementsMatch(t, want, left())
}

// hanging is a store that stops answering after some marks.
type hanging struct {
	blob.Store
	answers int
}

func (h *hanging) Mark(ctx context.Context, ref blob.Ref) (blob.Mark, error) {
	if h.answers == 0 {
		<-ctx.Done()
		return blob.Mark{}, ctx.Err()
	}
	h.answers--
	return h.Store.Mark(ctx, ref)
}

// TestNotesOfAStoreThatHangs: a store that stops answering in the middle of a turn holds the sweep up for a moment only, and the next
// turn goes on behind what was looked at.
func TestNotesOfAStoreThatHangs(t *testing.T) {
	t.Parallel()
	base := pgtest.Schema(t, "signer")
	admin := pgtest.Admin(t, base)
	files, err := blob.OpenFS(t.TempDir())
	require.NoError(t, err)
	now := time.Date(2037, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range byte(4) {
		_, err := admin.Exec(t.Context(), `INSERT INTO made_file (tenant_id, sha256, original_sha256, size, made_at) VALUES ('acme', $1, $1, 1, $2)`, append(make([]byte, 31), i), now.AddDate(0, 0, -2))
		require.NoError(t, err)
	}
	left := func() (n int) {
		require.NoError(t, admin.QueryRow(t.Context(), `SELECT count(*) FROM made_file`).Scan(&n))
		return n
	}
	store := &hanging{Store: files, answers: 3}
	s := &Service{db: base, blobs: store, now: func() time.Time { return now }, log: slog.New(slog.DiscardHandler)}
	n := s.writtenDown()[0]
	require.NoError(t, n.turn(t.Context(), s))
	require.Equal(t, 1, left())
	require.Error(t, n.turn(t.Context(), s), "it does not answer at all")
	require.Equal(t, now.Add(notesAfterError), n.due)
	store.answers, n.due = 1, time.Time{}
	require.NoError(t, n.turn(t.Context(), s))
	require.Zero(t, left())
	require.Equal(t, now.Add(notesEvery), n.due)
}
