// Package tlog reads our logs with Tessera, which the operators of transparency logs run, and Tessera's logs with ours.
package tlog

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/tlogtest"
	"ceralacca.dev/services/format/tlog/witness"
)

const origin = "archivio.test/2026"

// hashes are the leaves of a bundle, as Tessera's own reader takes it apart.
func hashes(bundle []byte) ([][]byte, error) {
	var b api.EntryBundle
	if err := b.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	var out [][]byte
	for _, e := range b.Entries {
		out = append(out, rfc6962.DefaultHasher.HashLeaf(e))
	}
	return out, nil
}

func entry(i int) []byte { return fmt.Appendf(nil, "unità %d", i) }

// TestTesseraReadsOurLog: Tessera's client finds each tile where it looks for it, computes the same root from all entries, and
// proofs that it makes out of our tiles hold, as ours do for it. Test 34 of the archive's list.
func TestTesseraReadsOurLog(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	store := tlogtest.Dir(dir)
	signer, err := tlog.NewSigner(origin, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	require.NoError(t, err)
	verifier, err := note.NewVerifier(signer.String())
	require.NoError(t, err)
	files := client.FileFetcher{Root: dir}
	l, err := tlog.Open(ctx, store, tlog.EmptyTree())
	require.NoError(t, err)
	var trees []tlog.Tree
	// A leaf, a tile but one, a full one, one more, several, and more than 65,536, where the third level begins.
	for _, size := range []int{1, 255, 256, 257, 1000, 66_000} {
		for l.Size() < int64(size) {
			_, err := l.Append(ctx, entry(int(l.Size())))
			require.NoError(t, err)
		}
		tree, err := l.Commit(ctx)
		require.NoError(t, err)
		raw, err := tlog.Checkpoint{Origin: origin, Tree: tree}.Sign(signer)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "checkpoint"), raw, 0o600))
		require.NoError(t, fsck.New(origin, verifier, files, hashes, fsck.Opts{N: 2}).Check(ctx), size)

		builder, err := client.NewProofBuilder(ctx, uint64(size), files.ReadTile)
		require.NoError(t, err)
		for _, i := range []int{0, size / 3, size - 1} {
			leaf := rfc6962.DefaultHasher.HashLeaf(entry(i))
			theirs, err := builder.InclusionProof(ctx, uint64(i))
			require.NoError(t, err)
			ours, err := tlog.Inclusion(ctx, store, tree, int64(i))
			require.NoError(t, err)
			require.Equal(t, theirs, plain(ours))
			require.NoError(t, proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(i), uint64(size), leaf, plain(ours), tree.Root[:]))
		}
		for _, old := range trees {
			theirs, err := builder.ConsistencyProof(ctx, uint64(old.Size), uint64(size))
			require.NoError(t, err)
			ours, err := tlog.Consistency(ctx, store, old.Size, tree)
			require.NoError(t, err)
			require.Equal(t, theirs, plain(ours))
			require.NoError(t, proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(old.Size), uint64(size), plain(ours), old.Root[:], tree.Root[:]))
		}
		trees = append(trees, tree)
	}
	// An entry that was changed has another hash than its leaf, for Tessera's client too.
	bundle := filepath.Join(dir, filepath.FromSlash(tlog.Tile{Level: tlog.EntryLevel, Index: 7, Width: tlog.TileWidth}.Path()))
	changed, err := os.ReadFile(bundle)
	require.NoError(t, err)
	changed[len(changed)-1] ^= 1
	require.NoError(t, os.Chmod(bundle, 0o600))
	require.NoError(t, os.WriteFile(bundle, changed, 0o600))
	read, err := files.ReadEntryBundle(ctx, 7, 0)
	require.NoError(t, err)
	found, err := hashes(read)
	require.NoError(t, err)
	leaves, err := client.FetchLeafHashes(ctx, files.ReadTile, 7*tlog.TileWidth, tlog.TileWidth, 66_000)
	require.NoError(t, err)
	require.Equal(t, leaves[:tlog.TileWidth-1], found[:tlog.TileWidth-1])
	require.NotEqual(t, leaves[tlog.TileWidth-1], found[tlog.TileWidth-1])
}

func plain(list []tlog.Hash) [][]byte {
	out := make([][]byte, 0, len(list))
	for _, h := range list {
		out = append(out, h[:])
	}
	return out
}

// TestOursReadTesserasLog: a log that Tessera writes is cosigned by our witness, over HTTP, and read by our library: its
// checkpoint, its entries and proofs. Tessera holds the witness's cosignature for good, else it would publish nothing.
func TestOursReadTesserasLog(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	secret, public, err := note.GenerateKey(rand.Reader, origin)
	require.NoError(t, err)
	signer, err := note.NewSigner(secret)
	require.NoError(t, err)

	folder := filepath.Join(t.TempDir(), "testimone")
	_, err = witness.Create(folder, "testimone.test")
	require.NoError(t, err)
	f, err := witness.Open(folder, time.Now)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	require.NoError(t, f.Trust(public))
	served := httptest.NewServer(witness.Handler(f, slog.New(slog.DiscardHandler)))
	defer served.Close()
	at, err := url.Parse(served.URL)
	require.NoError(t, err)
	asked, err := tessera.NewWitness(f.Key(), at)
	require.NoError(t, err)

	dir := t.TempDir()
	driver, err := posix.New(ctx, posix.Config{Path: dir})
	require.NoError(t, err)
	log, end, reader, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).WithCheckpointInterval(100*time.Millisecond).WithBatching(256, 50*time.Millisecond).
		WithWitnesses(tessera.NewWitnessGroup(1, asked), nil))
	require.NoError(t, err)
	logKey, err := tlog.ParseVerifier(public)
	require.NoError(t, err)
	witnessKey, err := tlog.ParseVerifier(f.Key())
	require.NoError(t, err)
	policy := tlog.Policy{Origin: origin, LogKeys: []*tlog.Verifier{logKey}, Witnesses: []*tlog.Verifier{witnessKey}, Quorum: 1}
	store := tlogtest.Dir(dir)
	await := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 20*time.Millisecond)
	var seen []*tlog.Signed
	for _, upTo := range []int{1, 300, 1000} {
		from := 0
		if len(seen) > 0 {
			from = int(seen[len(seen)-1].Size)
		}
		var futures []tessera.IndexFuture
		for i := from; i < upTo; i++ {
			futures = append(futures, log.Add(ctx, tessera.NewEntry(entry(i))))
		}
		for i, future := range futures {
			index, err := future()
			require.NoError(t, err)
			require.EqualValues(t, from+i, index.Index)
		}
		var raw []byte
		require.Eventually(t, func() bool {
			_, raw, err = await.Await(ctx, futures[len(futures)-1])
			return err == nil
		}, 30*time.Second, 10*time.Millisecond)
		got, err := tlog.OpenCheckpoint(raw, policy)
		require.NoError(t, err, string(raw))
		require.EqualValues(t, upTo, got.Size)
		require.Len(t, got.Cosignatures, 1)
		cosigner, err := fnote.NewVerifierForCosignatureV1(f.Key())
		require.NoError(t, err)
		_, err = note.Open(raw, note.VerifierList(cosigner))
		require.NoError(t, err, "and their library takes our witness's signature")
		for e, err := range tlog.Entries(ctx, store, got.Tree, 0) {
			require.NoError(t, err)
			require.Equal(t, entry(int(e.Index)), e.Data)
		}
		for _, before := range seen {
			relation, err := tlog.JudgeStore(ctx, store, before.Tree, got.Tree)
			require.NoError(t, err)
			require.Equal(t, tlog.Grown, relation)
		}
		path, err := tlog.Inclusion(ctx, store, got.Tree, int64(upTo/2))
		require.NoError(t, err)
		require.NoError(t, tlog.CheckInclusion(path, got.Tree, int64(upTo/2), tlog.LeafHash(entry(upTo/2))))
		seen = append(seen, got)
	}
	require.NoError(t, end(ctx))
	logs := f.Logs()
	require.Len(t, logs, 1)
	require.EqualValues(t, 1000, logs[0].Size, "what the witness remembers")
}
