package tlog_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/tlog"
)

func FuzzPath(f *testing.F) {
	for _, s := range []string{"tile/0/000", "tile/4/x001/x234/067.p/8", "tile/entries/x001/000.p/255", "tile/63/x009/x223/x372/x036/x854/x775/807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		tile, err := tlog.ParsePath(path)
		if err == nil && tile.Path() != path {
			t.Fatalf("%q is read as %+v, whose path is %q", path, tile, tile.Path())
		}
	})
}

func FuzzBundle(f *testing.F) {
	f.Add([]byte("\x00\x01a\x00\x02bb"), 2)
	f.Add([]byte("\x00\x01a\x00"), 2)
	f.Add([]byte("\xff\xff"), 1)
	f.Fuzz(func(t *testing.T, raw []byte, width int) {
		entries, err := tlog.ParseBundle(raw, width)
		if err != nil {
			return
		}
		n := 0
		for _, e := range entries {
			n += 2 + len(e)
		}
		if n != len(raw) || len(entries) != width {
			t.Fatalf("%d entries of %d bytes from %d bytes, width %d", len(entries), n, len(raw), width)
		}
	})
}

// What is accepted is written as it was read; what is not signed by the log is never accepted.
func FuzzCheckpoint(f *testing.F) {
	w := newWorld(f)
	tree := tlog.Tree{Size: 70000, Root: tlog.LeafHash([]byte("x"))}
	good := w.sign(f, tree)
	f.Add(good)
	f.Add(tlog.Checkpoint{Origin: origin, Tree: tree}.Text())
	f.Add([]byte("a\n0\n" + tlog.EmptyTree().Root.String() + "\nextension\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if c, err := tlog.ParseText(raw); err == nil && !bytes.Equal(c.Text(), raw) {
			t.Fatalf("%q is read as %+v", raw, c)
		}
		s, err := tlog.OpenCheckpoint(raw, w.policy)
		if err == nil && s.Tree != tree {
			t.Fatalf("nobody signed %q", raw)
		}
		if with, err := tlog.AddSignatures(raw, good[bytes.LastIndex(good[:len(good)-1], []byte("\n"))+1:]); err == nil {
			_, err := tlog.AddSignatures(with)
			require.NoError(t, err)
		}
	})
}

func FuzzReceipt(f *testing.F) {
	w := newWorld(f)
	r, entry := receipt(f, w)
	bare, err := r.Marshal()
	require.NoError(f, err)
	r.Entry = entry
	full, err := r.Marshal()
	require.NoError(f, err)
	f.Add(bare)
	f.Add(full)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := tlog.ParseReceipt(raw)
		if err != nil {
			return
		}
		again, err := r.Marshal()
		if err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("%q is written again as %q: %v", raw, again, err)
		}
		if ev, err := r.Verify(nil, w.policy, tlog.StampPolicy{}); err == nil && !bytes.Equal(ev.Entry.Data, entry) {
			t.Fatalf("a proof for an entry that is not in the log: %q", raw)
		}
	})
}

func FuzzRequest(f *testing.F) {
	w := newWorld(f)
	tree := tlog.Tree{Size: 3, Root: tlog.LeafHash([]byte("x"))}
	r := tlog.Request{Old: 2, Proof: []tlog.Hash{{1}, {2}}, Checkpoint: w.sign(f, tree)}
	f.Add(r.Marshal())
	r = tlog.Request{Checkpoint: w.sign(f, tree)}
	f.Add(r.Marshal())
	wit := &tlog.Witness{Origin: origin, LogKeys: w.policy.LogKeys, Key: w.witnesses[0]}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := tlog.ParseRequest(raw); err == nil && !bytes.Equal(r.Marshal(), raw) {
			t.Fatalf("%q is written again as %q", raw, r.Marshal())
		}
		if line, next, err := wit.Judge(tlog.EmptyTree(), raw); err == nil && (next != tree || line == nil) {
			t.Fatalf("cosigned what the log did not sign: %q", raw)
		}
	})
}

func FuzzLeaf(f *testing.F) {
	_, leaves, _ := chain(f, "azienda", 2)
	for _, l := range leaves {
		f.Add(l)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := tlog.ParseLeaf(raw)
		if err != nil {
			return
		}
		again, err := l.Marshal()
		if err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("%q is written again as %q: %v", raw, again, err)
		}
	})
}

func FuzzVerifier(f *testing.F) {
	w := newWorld(f)
	f.Add(w.log.String())
	f.Add(w.witnesses[0].String())
	f.Add("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
	f.Fuzz(func(t *testing.T, vkey string) {
		v, err := tlog.ParseVerifier(vkey)
		if err == nil && v.String() != vkey {
			t.Fatalf("%q is written again as %q", vkey, v)
		}
	})
}
