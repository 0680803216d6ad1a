package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/tlogtest"
)

// TestConserveVerify judges a package with receipts from a log that is made here, without any server.
func TestConserveVerify(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	const archive = "testdata/inspect/package.zip"
	raw, err := os.ReadFile(archive)
	require.NoError(t, err)
	p, err := custody.ReadPackage(raw)
	require.NoError(t, err)
	require.NotEmpty(t, p.Units)
	const origin = "log.test"
	signer, err := tlog.NewSigner(origin, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	require.NoError(t, err)
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	key := file("log.key", []byte(signer.String()+"\n"))

	store, at := &tlogtest.Memory{}, time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	log, err := tlog.Open(ctx, store, tlog.EmptyTree())
	require.NoError(t, err)
	tail := &tlog.Tail{Tenant: tlog.TenantTag([]byte("k"), "acme")}
	var receipts []tlog.Receipt
	add := func(kind string, objects []tlog.Hash, note string) {
		leaf, err := tail.Next(kind, at, objects, note)
		require.NoError(t, err)
		entry, err := leaf.Marshal()
		require.NoError(t, err)
		index, err := log.Append(ctx, entry)
		require.NoError(t, err)
		_, err = tail.Follow(tlog.Entry{Index: index, Data: entry})
		require.NoError(t, err)
		receipts = append(receipts, tlog.Receipt{Index: index, Entry: entry})
	}
	state := func() (tlog.Tree, []byte) {
		tree, err := log.Commit(ctx)
		require.NoError(t, err)
		note, err := tlog.Checkpoint{Origin: origin, Tree: tree}.Sign(signer)
		require.NoError(t, err)
		return tree, note
	}
	for _, u := range p.Units {
		objects, note := custody.UnitObjects(u.ID, u.Files)
		add(custody.Taken, objects, note)
	}
	early, earlyNote := state()
	add(custody.Sealed, custody.PackageObjects(p.ID, p.Sum, [32]byte{1}, [32]byte{2}), "")
	tree, note := state()
	var flags []string
	for i, r := range receipts {
		r.Proof, err = tlog.Inclusion(ctx, store, tree, r.Index)
		require.NoError(t, err)
		r.Checkpoint = note
		text, err := r.Marshal()
		require.NoError(t, err)
		flags = append(flags, "--receipt", file(string(rune('a'+i))+".receipt", text))
	}
	proof, err := tlog.Consistency(ctx, store, early.Size, tree)
	require.NoError(t, err)
	oldFile, newFile := file("old", earlyNote), file("new", (&tlog.Request{Old: early.Size, Proof: proof, Checkpoint: note}).Marshal())
	forged, err := tlog.Checkpoint{Origin: origin, Tree: tlog.Tree{Size: early.Size, Root: tlog.Hash{7}}}.Sign(signer)
	require.NoError(t, err)
	changed := file("changed.zip", append(append([]byte{}, raw...), 0))

	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"by itself":             {[]string{archive}, 0, "the package in itself"},
		"all evidence":          {append([]string{archive, "--complete", "--checkpoint", oldFile, "--checkpoint", newFile}, flags...), 0, "byte for byte"},
		"as a pattern":          {[]string{archive, "--complete", "--receipt", filepath.Join(dir, "*.receipt")}, 0, "follow each other"},
		"changed":               {append([]string{changed}, flags...), 1, custody.PackageChanged},
		"a receipt is missing":  {append([]string{archive, "--complete"}, flags[2:]...), 1, custody.UnitInserted},
		"rolled back":           {[]string{archive, "--checkpoint", newFile, "--checkpoint", oldFile}, 1, custody.LogRolledBack},
		"forked":                {[]string{archive, "--checkpoint", oldFile, "--checkpoint", file("forged", forged)}, 1, custody.LogForked},
		"nothing links the two": {[]string{archive, "--checkpoint", oldFile, "--checkpoint", file("bare", note)}, 2, "has no proof from that size"},
		"no package":            {[]string{oldFile}, 1, packageUnreadable},
	} {
		t.Run(name, func(t *testing.T) {
			got := command(t, "", append([]string{"conserve", "verify", "--log-key", key}, c.args...)...)
			require.Equal(t, c.code, got.code, got.out+got.errOut)
			require.Contains(t, got.out, c.says)
			asJSON := command(t, "", append([]string{"conserve", "verify", "--format=json", "--log-key", key}, c.args...)...)
			require.Equal(t, c.code, asJSON.code)
			var report struct{ Verdict string }
			require.NoError(t, json.Unmarshal([]byte(asJSON.out), &report))
			require.NotEmpty(t, report.Verdict)
		})
	}
}
