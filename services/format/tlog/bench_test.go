package tlog_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/tlogtest"
)

// discard counts what a log writes and keeps the right edge's worth of nothing.
type discard struct{ bytes, writes int64 }

func (*discard) Get(context.Context, string) ([]byte, error) { return nil, tlog.ErrNotFound }

func (d *discard) Put(_ context.Context, _ string, data []byte) error {
	d.bytes += int64(len(data))
	d.writes++
	return nil
}

// leaf400 has the size of a leaf with one object.
var leaf400 = make([]byte, 400)

func BenchmarkAppend(b *testing.B) {
	d := &discard{}
	l, err := tlog.Open(context.Background(), d, tlog.EmptyTree())
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Append(context.Background(), leaf400); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "append/s")
	hashes := d.bytes - l.Size()/tlog.TileWidth*tlog.TileWidth*int64(2+len(leaf400))
	b.ReportMetric(float64(hashes)/float64(l.Size()), "tile-B/entry")
}

// BenchmarkCommit is a batch of 500 leaves, one second of intake, with its partial tiles.
func BenchmarkCommit(b *testing.B) {
	d := &discard{}
	l, err := tlog.Open(context.Background(), d, tlog.EmptyTree())
	require.NoError(b, err)
	for b.Loop() {
		for range 500 {
			if _, err := l.Append(context.Background(), leaf400); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := l.Commit(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(d.writes)/float64(b.N), "writes/commit")
	b.ReportMetric(float64(d.bytes)/float64(b.N), "B/commit")
}

func million(b *testing.B) (*tlogtest.Memory, tlog.Tree) {
	b.Helper()
	s := &tlogtest.Memory{}
	l, err := tlog.Open(context.Background(), s, tlog.EmptyTree())
	require.NoError(b, err)
	var e [8]byte
	for i := range 1_000_000 {
		e[0], e[1], e[2] = byte(i), byte(i>>8), byte(i>>16)
		if _, err := l.Append(context.Background(), e[:]); err != nil {
			b.Fatal(err)
		}
	}
	tree, err := l.Commit(context.Background())
	require.NoError(b, err)
	return s, tree
}

func BenchmarkProofs(b *testing.B) {
	s, tree := million(b)
	const at = 654321
	leaf := tlog.LeafHash([]byte{at & 0xff, at >> 8 & 0xff, at >> 16, 0, 0, 0, 0, 0})
	p, err := tlog.Inclusion(context.Background(), s, tree, at)
	require.NoError(b, err)
	c, err := tlog.Consistency(context.Background(), s, at, tree)
	require.NoError(b, err)
	b.Run("inclusion/build", func(b *testing.B) {
		for b.Loop() {
			if _, err := tlog.Inclusion(context.Background(), s, tree, at); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(p)), "hashes")
	})
	b.Run("inclusion/build-in-batch", func(b *testing.B) { // 500 neighbours, as the receipts of one second
		p := tlog.NewProver(s, tree)
		for i := int64(0); b.Loop(); i++ {
			if i%500 == 0 {
				p = tlog.NewProver(s, tree)
			}
			if _, err := p.Inclusion(context.Background(), at+i%500); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("inclusion/verify", func(b *testing.B) {
		for b.Loop() {
			if err := tlog.CheckInclusion(p, tree, at, leaf); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("consistency/build", func(b *testing.B) {
		for b.Loop() {
			if _, err := tlog.Consistency(context.Background(), s, at, tree); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(c)), "hashes")
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			if _, err := tlog.Open(context.Background(), s, tree); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkReceiptVerify(b *testing.B) {
	w := newWorld(b)
	r, entry := receipt(b, w)
	raw, err := r.Marshal()
	require.NoError(b, err)
	for b.Loop() {
		r, err := tlog.ParseReceipt(raw)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Verify(entry, w.policy, tlog.StampPolicy{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(raw)), "receipt-B")
}
