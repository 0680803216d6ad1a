package conservation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// refusalLimit: a key may be refused three times. Each refusal is told with how often it may still be tried, so that who has one left is
// warned before he uses it; another key has three of its own; the limit cannot be set lower.
func refusalLimit(t *testing.T, h *house, api conservationv1.DepositServiceClient) {
	bad := []byte("MZ\x90\x00 this is no document")
	told := func(key string) (left []int32) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, ev := range h.refusals {
			if ev.GetKey() == key {
				require.Contains(t, ev.GetCodes(), problemFormat)
				left = append(left, ev.GetAttemptsLeft())
			}
		}
		slices.Sort(left)
		return left
	}
	refuse := func(key string, left int32, all ...int32) {
		t.Helper()
		d := hand(t, api, headOf(key, "contratto.pdf", bad), bad)
		require.Equal(t, refused, d.GetState())
		require.Contains(t, problemCodes(d), problemFormat)
		require.Equal(t, left, d.GetAttemptsLeft(), "the producer is answered with it")
		h.await(t, "told", func() bool { return len(told(key)) == len(all) })
		require.Equal(t, all, told(key))
	}
	refuse("programma", 2, 2)
	refuse("programma", 1, 1, 2) // this is the warning: it is there before the last try
	refuse("altro-programma", 2, 2)
	refuse("programma", 0, 0, 1, 2)
	for range 2 { // what is spent stays spent, for good documents too
		_, err := upload(t, api, headOf("programma", "contratto.pdf", aPDF), aPDF, 0, len(aPDF))
		require.Equal(t, "DEPOSIT_ATTEMPTS_SPENT", code(err))
	}
	require.Len(t, told("programma"), 3)

	// Of another key nothing is taken away: after two refusals the third try may be the good one.
	refuse("altro-programma", 1, 1, 2)
	d := hand(t, api, headOf("altro-programma", "contratto.pdf", aPDF), aPDF)
	require.Equal(t, accepted, d.GetState(), d.GetProblems())
	require.Equal(t, []int32{1, 2}, told("altro-programma"))

	c := DefaultConfig()
	for attempts, admitted := range map[int]bool{0: false, 2: false, 3: true, 4: true} {
		c.Deposits.Attempts = attempts
		require.Equal(t, admitted, !strings.Contains(fmt.Sprint(c.Validate()), "deposits.attempts"), attempts)
	}
}

// everything is a line for each table of the archive's schema: how many rows it has, and a digest of them. passing names tables of
// which the archive's rounds write at any time, whatever is asked of it.
func (h *house) everything(t testing.TB, admin *pgx.Conn, passing ...string) map[string]string {
	t.Helper()
	ctx := context.Background()
	rows, err := admin.Query(ctx, `SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'`)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(tables), 40)
	all := map[string]string{}
	for _, table := range tables {
		if !slices.Contains(passing, table) {
			var line string
			require.NoError(t, admin.QueryRow(ctx, `SELECT concat(count(*), ' ', md5(string_agg(x::text, E'\n' ORDER BY x::text))) FROM `+pgx.Identifier{table}.Sanitize()+` AS x`).Scan(&line))
			all[table] = line
		}
	}
	return all
}

// rests: events are handed over, and the log states, stamped and told, what it is to state.
func (h *house) rests(t testing.TB) bool {
	t.Helper()
	rest := `SELECT NOT EXISTS (SELECT 1 FROM outbox)`
	if h.service.book != nil {
		rest += ` AND NOT EXISTS (SELECT 1 FROM log_pending) AND (SELECT count(*) FROM log_leaf) = COALESCE((SELECT max(size) FROM log_checkpoint), 0)
			AND (NOT EXISTS (SELECT 1 FROM log_checkpoint) OR EXISTS (SELECT 1 FROM log_checkpoint WHERE stamp IS NOT NULL))
			AND NOT EXISTS (SELECT 1 FROM log_leaf l WHERE l.idx < (SELECT max(size) FROM log_checkpoint WHERE stamp IS NOT NULL)
				AND NOT EXISTS (SELECT 1 FROM log_statement s WHERE s.tenant_id = l.tenant_id))`
	}
	var does bool
	h.rowsOf(t, rest, &does)
	return does
}

// still waits until what the archive does by itself has come to rest: nothing is on its way, and nothing changes any more.
func (h *house) still(t testing.TB, rows func() map[string]string) {
	t.Helper()
	last := rows()
	h.await(t, "nothing else is under way", func() bool {
		time.Sleep(100 * time.Millisecond)
		before := last
		last = rows()
		return h.rests(t) && maps.Equal(before, last)
	})
}

// filesIn are all files below a folder, with their bytes. That a disk can be written is tried with a file which comes and goes.
func filesIn(t testing.TB, dir string) map[string][32]byte {
	t.Helper()
	found := map[string][32]byte{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(path), "check-") {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		found[path] = sha256.Sum256(raw)
		return err
	}))
	return found
}

// dryRunKeepsNothing: what is asked in vain, or only tried, is judged as it would be, and nothing of it is kept: no row of any table, no
// leaf, no job, no event, no file in either replica or in the platform's store.
func dryRunKeepsNothing(t *testing.T, h *house, api conservationv1.DepositServiceClient) {
	passing := []string{"archive_copy", "archive_cursor", "archive_position", "archive_timer", "river_client", "river_client_queue", "river_job", "river_leader", "river_queue"}
	h.await(t, "reports", func() bool {
		var open int
		h.rowsOf(t, `SELECT count(*) FROM deposit WHERE state = 'ACCEPTED' AND report IS NULL`, &open)
		return open == 0
	})
	admin := pgtest.Admin(t, h.DB("conservation"))
	kept := func() (map[string]string, map[string][32]byte) {
		files := filesIn(t, h.disks[0])
		maps.Copy(files, filesIn(t, h.disks[1]))
		maps.Copy(files, filesIn(t, filepath.Join(h.dir, "process", "blobs")))
		rows, jobs := h.everything(t, admin, passing...), ""
		require.NoError(t, admin.QueryRow(context.Background(), `SELECT count(*)::text FROM river_job WHERE kind IN ($1, $2, $3, $4)`,
			rdvArgs{}.Kind(), submissionArgs{}.Kind(), mendArgs{}.Kind(), searchArgs{}.Kind()).Scan(&jobs))
		rows["jobs that a deposit could order"] = jobs
		return rows, files
	}
	h.still(t, func() map[string]string { rows, _ := kept(); return rows })
	before, files := kept()
	require.NotEmpty(t, files)

	other := []byte("altro\n")
	const text = "Verbale del 2 maggio\n"
	good := zipped(t, map[string]string{"IdC.xml": idc2010(text, oldMetadata, ""), "doc uno.txt": text, "meta.xml": oldMetadata})
	broken := zipped(t, map[string]string{"IdC.xml": idc2010(text, oldMetadata, ""), "doc uno.txt": "altro", "meta.xml": oldMetadata})
	wrong := headOf("prova", "prova.pdf", aPDF)
	wrong.Sha256 = bytes.Repeat([]byte{7}, 32)
	mute := headOf("prova", "prova.pdf", aPDF)
	mute.Document = &conservationv1.Document{Type: "Lettera", Title: "x", Date: "2026-13-01", Flow: conservationv1.Flow_FLOW_OUT}
	for name, c := range map[string]struct {
		head    *conservationv1.DepositHead
		content []byte
		want    conservationv1.DepositState
		code    string
	}{
		"good":                   {headOf("prova", "prova.pdf", aPDF), aPDF, accepted, ""},
		"good again":             {headOf("prova", "prova.pdf", aPDF), aPDF, accepted, ""},
		"another format":         {headOf("prova", "prova.xml", aPDF), aPDF, refused, problemName},
		"other digest":           {wrong, aPDF, refused, problemDigest},
		"metadata lacks":         {mute, aPDF, refused, problemMetadata},
		"a key that is held":     {headOf("contratto-12", "a.txt", other), other, contest, problemConflict},
		"what is held already":   {headOf("contratto-12", "a.pdf", aPDF), aPDF, accepted, ""},
		"package":                {packageHead("prova", good), good, accepted, ""},
		"package that is broken": {packageHead("prova", broken), broken, refused, problemPackage},
	} {
		c.head.ValidateOnly = true
		d := hand(t, api, c.head, c.content)
		require.Equal(t, c.want, d.GetState(), "%s: %v", name, d.GetProblems())
		if c.code != "" {
			require.Contains(t, problemCodes(d), c.code, name)
		}
		require.Empty(t, d.GetName(), name)
		require.Empty(t, d.GetUnit(), name)
		rows, now := kept()
		require.Equal(t, before, rows, name)
		require.Equal(t, files, now, name)
	}
	spent := headOf("programma", "prova.pdf", aPDF)
	spent.ValidateOnly = true
	_, err := upload(t, api, spent, aPDF, 0, len(aPDF))
	require.Equal(t, "DEPOSIT_ATTEMPTS_SPENT", code(err))
	rows, now := kept()
	require.Equal(t, before, rows)
	require.Equal(t, files, now)
	_, err = api.OpenDeposit(context.Background(), &conservationv1.OpenDepositRequest{Parent: "tenants/acme", Key: "prova"})
	require.Equal(t, fault.KindNotFound, fault.Of(err).Kind, "there is no such deposit: %v", err)
}
