package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

	// A bag that was made good again round something else: only the index tells.
	rebag := func(name string, change func(files map[string][]byte)) string {
		return file(name, rebagged(t, raw, change))
	}
	slipped := rebag("slipped.zip", func(files map[string][]byte) { files["data/units/u000001/extra.xml"] = []byte("<x/>") })
	beside := rebag("beside.zip", func(files map[string][]byte) { files["data/extra.xml"] = []byte("<x/>") })
	described := rebag("described.zip", func(files map[string][]byte) {
		for name := range files {
			if strings.HasSuffix(name, "/metadati.xml") {
				files[name] = append(files[name], '\n')
			}
		}
	})
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"the same bag again":    {[]string{rebag("same.zip", func(map[string][]byte) {})}, 0, "the package in itself"},
		"a file slipped in":     {[]string{slipped}, 1, "extra.xml is not in the index"},
		"a file beside units":   {[]string{beside}, 1, "data/extra.xml is not in the index"},
		"other metadata":        {[]string{described}, 1, "metadati.xml is not the file that the index names"},
		"without roots":         {[]string{archive}, 0, noRoots},
		"by itself":             {[]string{archive}, 0, "the package in itself"},
		"all evidence":          {append([]string{archive, "--complete", "--checkpoint", oldFile, "--checkpoint", newFile}, flags...), 0, "byte for byte"},
		"as a pattern":          {[]string{archive, "--complete", "--receipt", filepath.Join(dir, "*.receipt")}, 0, "follow each other"},
		"changed":               {append([]string{changed}, flags...), 1, custody.PackageChanged},
		"changed, by itself":    {[]string{changed}, 1, packageUnreadable},
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

// rebagged is a package with its files changed and its manifests made anew.
func rebagged(t *testing.T, raw []byte, change func(files map[string][]byte)) []byte {
	t.Helper()
	archive, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	folder, files := "", map[string][]byte{}
	for _, f := range archive.File {
		r, err := f.Open()
		require.NoError(t, err)
		var name string
		folder, name, _ = strings.Cut(f.Name, "/")
		files[name], err = io.ReadAll(r)
		require.NoError(t, err)
	}
	change(files)
	list := func(of func(string) bool) []byte {
		var out bytes.Buffer
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if of(name) {
				fmt.Fprintf(&out, "%x  %s\n", sha256.Sum256(files[name]), name)
			}
		}
		return out.Bytes()
	}
	files["manifest-sha256.txt"] = list(func(name string) bool { return strings.HasPrefix(name, "data/") })
	files["tagmanifest-sha256.txt"] = list(func(name string) bool { return !strings.HasPrefix(name, "data/") && name != "tagmanifest-sha256.txt" })
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, err := w.Create(folder + "/" + name)
		require.NoError(t, err)
		_, err = f.Write(files[name])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}
