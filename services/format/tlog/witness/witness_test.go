package witness_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/tlogtest"
	"ceralacca.dev/services/format/tlog/witness"
)

const origin = "registro.test/2026"

// book is a log in memory with a history that can be forked.
type book struct {
	t      *testing.T
	log    *tlog.Log
	store  *tlogtest.Memory
	signer *tlog.Signer
}

func newBook(t *testing.T, name string) *book {
	signer, err := tlog.NewSigner(name, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	require.NoError(t, err)
	b := &book{t: t, store: &tlogtest.Memory{}, signer: signer}
	b.log, err = tlog.Open(t.Context(), b.store, tlog.EmptyTree())
	require.NoError(t, err)
	return b
}

// grow appends n entries that say word, and gives the tree with its signed checkpoint.
func (b *book) grow(n int, word string) (tlog.Tree, []byte) {
	for i := range n {
		_, err := b.log.Append(b.t.Context(), fmt.Appendf(nil, "%s %d", word, i))
		require.NoError(b.t, err)
	}
	tree, err := b.log.Commit(b.t.Context())
	require.NoError(b.t, err)
	note, err := tlog.Checkpoint{Origin: b.signer.Name(), Tree: tree}.Sign(b.signer)
	require.NoError(b.t, err)
	return tree, note
}

func (b *book) request(old int64, tree tlog.Tree, note []byte) *tlog.Request {
	proof, err := tlog.Consistency(b.t.Context(), b.store, old, tree)
	require.NoError(b.t, err)
	return &tlog.Request{Old: old, Proof: proof, Checkpoint: note}
}

// start makes a witness that watches a log, and serves it.
func start(t *testing.T, dir string, b *book) (*witness.Folder, *witness.Client) {
	vkey, err := witness.Create(dir, "testimone.test")
	require.NoError(t, err)
	f, err := witness.Open(dir, time.Now)
	require.NoError(t, err)
	require.NoError(t, f.Trust(b.signer.String()))
	require.NoError(t, f.Trust(b.signer.String()), "twice is once")
	key, err := tlog.ParseVerifier(vkey)
	require.NoError(t, err)
	require.Equal(t, vkey, f.Key())
	srv := httptest.NewServer(witness.Handler(f, slog.New(slog.DiscardHandler)))
	t.Cleanup(srv.Close)
	return f, &witness.Client{URL: srv.URL, Key: key, HTTP: srv.Client()}
}

func status(t *testing.T, err error) *tlog.WitnessError {
	t.Helper()
	var no *tlog.WitnessError
	require.ErrorAs(t, err, &no)
	return no
}

// TestWitnessOverHTTP follows a log that grows, refuses everything else, and goes on after a restart.
func TestWitnessOverHTTP(t *testing.T) {
	ctx, dir, b := t.Context(), t.TempDir(), newBook(t, origin)
	f, client := start(t, dir, b)
	policy := tlog.Policy{Origin: origin, LogKeys: []*tlog.Verifier{&b.signer.Verifier}, Witnesses: []*tlog.Verifier{client.Key}, Quorum: 1}
	one, first := b.grow(300, "a")
	backup := b.store.Clone()
	line, err := client.Ask(ctx, b.request(0, one, first))
	require.NoError(t, err)
	cosigned, err := tlog.AddSignatures(first, line)
	require.NoError(t, err)
	_, err = tlog.OpenCheckpoint(cosigned, policy)
	require.NoError(t, err)

	two, second := b.grow(400, "b")
	no := status(t, func() error { _, err := client.Ask(ctx, b.request(0, two, second)); return err }())
	require.Equal(t, http.StatusConflict, no.Status)
	require.Equal(t, one.Size, no.Size, "it names the size that it has")
	_, err = client.Ask(ctx, b.request(one.Size, two, second))
	require.NoError(t, err)

	// The log is set back to the backup and tells another story from there.
	back, err := tlog.Open(ctx, backup, one)
	require.NoError(t, err)
	fork := &book{t: t, log: back, store: backup, signer: b.signer}
	three, forged := fork.grow(500, "c")
	_, err = client.Ask(ctx, fork.request(one.Size, three, forged))
	require.Equal(t, http.StatusConflict, status(t, err).Status)
	_, err = client.Ask(ctx, &tlog.Request{Old: two.Size, Proof: fork.request(one.Size, three, forged).Proof, Checkpoint: forged})
	require.Equal(t, http.StatusUnprocessableEntity, status(t, err).Status)
	kept, err := filepath.Glob(filepath.Join(dir, "logs", "*", "refused", "*"))
	require.NoError(t, err)
	require.Len(t, kept, 1, "the forged checkpoint is evidence")

	stranger := newBook(t, "another.test")
	tree, note := stranger.grow(1, "x")
	_, err = client.Ask(ctx, stranger.request(0, tree, note))
	require.Equal(t, http.StatusNotFound, status(t, err).Status)
	unsigned := strings.Replace(string(second), "\n700\n", "\n701\n", 1)
	_, err = client.Ask(ctx, &tlog.Request{Old: two.Size, Checkpoint: []byte(unsigned)})
	require.Equal(t, http.StatusForbidden, status(t, err).Status)
	resp, err := client.HTTP.Post(client.URL+"/add-checkpoint", "", strings.NewReader(strings.Repeat("x", 1<<20)))
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	require.NoError(t, resp.Body.Close())

	_, err = witness.Open(dir, time.Now)
	require.ErrorContains(t, err, "in use", "one process at a time")
	require.NoError(t, f.Close())
	f, err = witness.Open(dir, time.Now)
	require.NoError(t, err)
	require.Equal(t, two.Size, f.Logs()[0].Size, "what was cosigned outlives the process")
	_, err = f.Add(fork.request(one.Size, three, forged).Marshal())
	require.Equal(t, http.StatusConflict, status(t, err).Status)
	require.NoError(t, f.Close())
}

// TestStateIsNeverBegunAnew: a witness whose state is gone, damaged or somebody else's does not start.
func TestStateIsNeverBegunAnew(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, last string){
		"gone":    func(t *testing.T, last string) { require.NoError(t, os.Remove(last)) },
		"damaged": func(t *testing.T, last string) { require.NoError(t, os.WriteFile(last, []byte("registro"), 0o600)) },
		"not cosigned by it": func(t *testing.T, last string) {
			raw, err := os.ReadFile(last)
			require.NoError(t, err)
			own := strings.LastIndex(string(raw), "— testimone.test")
			require.Positive(t, own)
			require.NoError(t, os.WriteFile(last, raw[:own], 0o600))
		},
		"keys gone": func(t *testing.T, last string) {
			require.NoError(t, os.Remove(filepath.Join(filepath.Dir(last), "keys")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, b := t.TempDir(), newBook(t, origin)
			f, client := start(t, dir, b)
			tree, note := b.grow(3, "a")
			_, err := client.Ask(t.Context(), b.request(0, tree, note))
			require.NoError(t, err)
			require.NoError(t, f.Close())
			last, err := filepath.Glob(filepath.Join(dir, "logs", "*", "last"))
			require.NoError(t, err)
			require.Len(t, last, 1)
			harm(t, last[0])
			_, err = witness.Open(dir, time.Now)
			require.ErrorIs(t, err, witness.ErrState)
		})
	}
	_, err := witness.Create(t.TempDir(), "a name")
	require.ErrorContains(t, err, "name")
	dir := t.TempDir()
	_, err = witness.Create(dir, "a")
	require.NoError(t, err)
	_, err = witness.Create(dir, "a")
	require.ErrorContains(t, err, "already", "a key is never replaced")
}

// TestManyHistoriesAtOnce: twenty forks of one size are submitted side by side; one of them is cosigned.
func TestManyHistoriesAtOnce(t *testing.T) {
	dir, b := t.TempDir(), newBook(t, origin)
	f, client := start(t, dir, b)
	defer func() { require.NoError(t, f.Close()) }()
	var wg sync.WaitGroup
	var mu sync.Mutex
	signed := map[tlog.Hash]bool{}
	for i := range 20 {
		fork := newBook(t, origin)
		tree, note := fork.grow(7, fmt.Sprint("history ", i))
		r := fork.request(0, tree, note)
		wg.Go(func() {
			_, err := client.Ask(context.WithoutCancel(t.Context()), r)
			mu.Lock()
			defer mu.Unlock()
			var no *tlog.WitnessError
			if err == nil {
				signed[tree.Root] = true
			} else if !errors.As(err, &no) {
				t.Errorf("no answer: %v", err)
			}
		})
	}
	wg.Wait()
	require.Len(t, signed, 1)
}

// TestDiskFails: when the state cannot be written, nothing is signed.
func TestDiskFails(t *testing.T) {
	if os.Getuid() == 0 {
		t.Log("run as root: the folder is taken away instead of made read-only")
	}
	dir, b := t.TempDir(), newBook(t, origin)
	f, client := start(t, dir, b)
	defer func() { require.NoError(t, f.Close()) }()
	tree, note := b.grow(3, "a")
	logs, err := filepath.Glob(filepath.Join(dir, "logs", "*"))
	require.NoError(t, err)
	require.NoError(t, os.Rename(logs[0], logs[0]+".away"))
	_, err = client.Ask(t.Context(), b.request(0, tree, note))
	require.Equal(t, http.StatusInternalServerError, status(t, err).Status)
	require.NoError(t, os.Rename(logs[0]+".away", logs[0]))
	_, err = client.Ask(t.Context(), b.request(0, tree, note))
	require.NoError(t, err, "and it goes on when the disk is back")
}

// TestForeignAnswers: what is no cosignature of the expected key is not taken for one.
func TestForeignAnswers(t *testing.T) {
	b := newBook(t, origin)
	tree, note := b.grow(3, "a")
	other, err := tlog.NewCosigner("testimone.test", ed25519.NewKeyFromSeed([]byte("thirty-two bytes of another seed")), time.Now)
	require.NoError(t, err)
	vkey, err := witness.Create(t.TempDir(), "testimone.test")
	require.NoError(t, err)
	key, err := tlog.ParseVerifier(vkey)
	require.NoError(t, err)
	signed, err := tlog.OpenCheckpoint(note, tlog.Policy{Origin: origin, LogKeys: []*tlog.Verifier{&b.signer.Verifier}})
	require.NoError(t, err)
	line, err := tlog.Cosign(signed, other)
	require.NoError(t, err)
	for name, answer := range map[string]struct {
		code int
		body string
	}{"another key": {200, string(line)}, "nothing": {200, ""}, "a page": {200, "<html>"}, "409 without a size": {409, "x"}} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(answer.code)
			_, _ = w.Write([]byte(answer.body))
		}))
		_, err = (&witness.Client{URL: srv.URL, Key: key, HTTP: srv.Client()}).Ask(t.Context(), b.request(0, tree, note))
		srv.Close()
		require.Error(t, err, name)
		var no *tlog.WitnessError
		require.False(t, errors.As(err, &no), "%s: %v", name, err)
	}
}
