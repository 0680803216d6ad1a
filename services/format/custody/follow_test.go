package custody_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/tlogtest"
)

// shown is a log as it is published.
type shown struct {
	note    []byte
	tiles   *tlogtest.Memory
	stamped *custody.Stamped
	away    error
	none    bool // it has no checkpoint
}

func (s *shown) Stamped(context.Context) (*custody.Stamped, error) { return s.stamped, s.away }

func (s *shown) Checkpoint(context.Context) ([]byte, error) {
	if s.none {
		return nil, fmt.Errorf("%w: a checkpoint", tlog.ErrNotFound)
	}
	return s.note, s.away
}

func (s *shown) Get(ctx context.Context, path string) ([]byte, error) {
	if s.away != nil {
		return nil, s.away
	}
	return s.tiles.Get(ctx, path)
}

// units adds n leaves and gives what is published then.
func (b *book) units(from, n int) *shown {
	for i := range n {
		objects, note := custody.UnitObjects("u", [][32]byte{file(from + i)})
		b.add(custody.Taken, objects, note)
	}
	tree, err := b.log.Commit(b.t.Context())
	require.NoError(b.t, err)
	note, err := tlog.Checkpoint{Origin: origin, Tree: tree}.Sign(b.signer)
	require.NoError(b.t, err)
	return &shown{note: note, tiles: b.store.Clone()}
}

// TestFollow is the monitor against a log that grows, and against each that does not.
func TestFollow(t *testing.T) {
	ctx, b := t.Context(), newBook(t)
	first := b.units(0, 300)
	receipts := b.receipts()[:5]
	other := newBook(t)
	other.units(0, 299)
	forkedAt300 := other.units(1000, 1)
	second := b.units(300, 400)
	forked := other.units(2000, 400)
	follow := func(src *shown, seen []byte, with []custody.Receipt) *custody.Round {
		t.Helper()
		r, err := custody.Follow(ctx, src, seen, with, b.policy(), custody.Freshness{})
		require.NoError(t, err)
		return r
	}
	r := follow(first, nil, receipts)
	require.Empty(t, r.Problems)
	require.Empty(t, r.Relation)
	require.Equal(t, 5, r.Receipts)
	r = follow(second, first.note, receipts)
	require.Empty(t, r.Problems)
	require.Equal(t, tlog.Grown, r.Relation)
	require.EqualValues(t, 700, r.Tree.Size)
	require.Equal(t, tlog.Same, follow(second, second.note, nil).Relation)

	require.True(t, follow(first, second.note, nil).Has(custody.LogRolledBack), "rolled back")
	require.True(t, follow(forkedAt300, first.note, nil).Has(custody.LogForked), "forked at the same size")
	require.True(t, follow(forked, first.note, nil).Has(custody.LogForked), "forked and grown")
	require.True(t, follow(forked, nil, b.receipts()[299:300]).Has(custody.ReceiptGone), "another leaf in its place")
	require.True(t, follow(forked, nil, receipts).Has(custody.LogForked), "the receipts' own checkpoint is of another history")
	require.True(t, follow(first, nil, b.receipts()[650:651]).Has(custody.ReceiptGone), "the log ends before it")

	for name, harm := range map[string]func(m *tlogtest.Memory){
		"truncated": func(m *tlogtest.Memory) { delete(m.Files, "tile/0/000") },
		"changed":   func(m *tlogtest.Memory) { m.Files["tile/0/000"][7]++ },
	} {
		harmed := &shown{note: second.note, tiles: second.tiles.Clone()}
		harm(harmed.tiles)
		require.True(t, follow(harmed, first.note, receipts).Has(custody.LogBroken), name)
	}
	stranger := newBook(t)
	strange, err := tlog.NewSigner("stranger", logKey())
	require.NoError(t, err)
	note, err := tlog.Checkpoint{Origin: origin, Tree: r.Tree}.Sign(strange)
	require.NoError(t, err)
	require.True(t, follow(&shown{note: note, tiles: stranger.store}, first.note, nil).Has(custody.CheckpointBad))

	away := errors.New("away")
	_, err = custody.Follow(ctx, &shown{away: away}, first.note, receipts, b.policy(), custody.Freshness{})
	require.ErrorIs(t, err, away, "who cannot be reached is no forger")
	_, err = custody.Follow(ctx, &shown{note: second.note, tiles: second.tiles}, []byte("torn"), nil, b.policy(), custody.Freshness{})
	require.ErrorContains(t, err, "kept")
	_, err = custody.Follow(ctx, first, nil, nil, tlog.Policy{}, custody.Freshness{})
	require.ErrorContains(t, err, "policy")
}

// TestFresh: a log that was stamped lately is told from one that is read from an old copy, and from one whose stamp is worth nothing.
func TestFresh(t *testing.T) {
	ctx, b := t.Context(), newBook(t)
	pki, other, at := cmstest.New(t), cmstest.New(t), cmstest.Now
	over := func(note []byte, by *cmstest.PKI) *custody.Stamped {
		text, _, _ := bytes.Cut(note, []byte("\n\n"))
		return &custody.Stamped{Note: note, Stamp: tlogtest.Stamp(t, by, append(bytes.Clone(text), '\n'))}
	}
	first := b.units(0, 3)
	second := b.units(3, 4)
	twin := newBook(t)
	twin.units(50, 3)
	forked := twin.units(60, 1)
	const week = 7 * 24 * time.Hour
	for name, c := range map[string]struct {
		stamped *custody.Stamped
		age     time.Duration
		code    string
	}{
		"of the last checkpoint": {over(second.note, pki), 47 * time.Hour, ""},
		"of the one before":      {over(first.note, pki), 47 * time.Hour, ""},
		"old":                    {over(second.note, pki), 49 * time.Hour, custody.LogStale},
		"of another fork":        {over(forked.note, pki), 0, custody.LogForked},
		"to come":                {over(second.note, pki), -week, custody.StampBad},
		"over something else":    {&custody.Stamped{Note: second.note, Stamp: over(first.note, pki).Stamp}, 0, custody.StampBad},
		"of a stranger":          {over(second.note, other), 0, custody.StampBad},
		"torn":                   {&custody.Stamped{Note: second.note, Stamp: []byte("torn")}, 0, custody.StampBad},
		"missing":                {&custody.Stamped{Note: second.note}, 0, custody.StampBad},
		"not the log's":          {over([]byte("x\n1\n\n- y z\n"), pki), 0, custody.CheckpointBad},
		"of more than there is":  {over(b.units(7, 1).note, pki), 0, custody.LogRolledBack},
	} {
		t.Run(name, func(t *testing.T) {
			src := &shown{note: second.note, tiles: second.tiles, stamped: c.stamped}
			want := custody.Freshness{Within: 48 * time.Hour, Now: at.Add(c.age), Stamps: tlog.StampPolicy{Roots: pki.Pool()}}
			r, err := custody.Follow(ctx, src, nil, nil, b.policy(), want)
			require.NoError(t, err)
			if c.code == "" {
				require.Empty(t, r.Problems)
				require.Empty(t, r.Unshown)
				require.Equal(t, at, r.Stamped)
				return
			}
			require.True(t, r.Has(c.code), "%v", r.Problems)
		})
	}
	r, err := custody.Follow(ctx, second, nil, nil, b.policy(), custody.Freshness{Within: time.Hour, Now: at})
	require.NoError(t, err)
	require.True(t, r.Unstamped)
	require.Contains(t, fmt.Sprint(r.Unshown), "no checkpoint of it was stamped yet")
	second.stamped = over(second.note, other)
	r, err = custody.Follow(ctx, second, nil, nil, b.policy(), custody.Freshness{Within: time.Hour, Now: at})
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(r.Unshown), "no roots were given")
	r, err = custody.Follow(ctx, second, nil, nil, b.policy(), custody.Freshness{Now: at.Add(week)})
	require.NoError(t, err)
	require.Empty(t, r.Problems, "it was not asked for")
}

// TestFollowAnEmptyLog: a log in which nothing was taken in charge yet is no log that does not answer; one that had something is.
func TestFollowAnEmptyLog(t *testing.T) {
	ctx, b := t.Context(), newBook(t)
	src := &shown{tiles: &tlogtest.Memory{}, none: true}
	fresh := custody.Freshness{Within: time.Hour, Now: cmstest.Now}
	r, err := custody.Follow(ctx, src, nil, nil, b.policy(), fresh)
	require.NoError(t, err)
	require.Empty(t, r.Problems)
	require.False(t, r.Unstamped, "there is nothing to stamp")
	require.Contains(t, fmt.Sprint(r.Unshown), "nothing was taken in charge yet")
	first := b.units(0, 3)
	r, err = custody.Follow(ctx, src, first.note, nil, b.policy(), fresh)
	require.NoError(t, err)
	require.True(t, r.Has(custody.LogRolledBack))
	r, err = custody.Follow(ctx, src, nil, b.receipts(), b.policy(), fresh)
	require.NoError(t, err)
	require.True(t, r.Has(custody.ReceiptGone))
}

// TestSealedAs: a package is known by the receipt of its sealing, and by its bytes.
func TestSealedAs(t *testing.T) {
	b := newBook(t)
	b.add(custody.Sealed, custody.PackageObjects("p", file(1), file(2), file(3)), "")
	objects, note := custody.UnitObjects("p", [][32]byte{file(1)})
	b.add(custody.Taken, objects, note)
	receipts := b.receipts()
	require.Len(t, custody.PackageReceipts(receipts), 1)
	for _, c := range []struct {
		id          string
		sum         [32]byte
		known, same bool
	}{{"p", file(1), true, true}, {"p", file(2), true, false}, {"q", file(1), false, false}} {
		_, known, same := custody.SealedAs(receipts, c.id, c.sum)
		require.Equal(t, []bool{c.known, c.same}, []bool{known, same}, "%+v", c)
	}
}

func logKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte("another seed of thirty-two bytes"))
}
