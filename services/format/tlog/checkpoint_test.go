package tlog_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/tlogtest"
)

const origin = "registro.ceralacca.example/2026"

var now = time.Date(2026, 3, 2, 10, 30, 15, 0, time.UTC)

// world is a log with two witnesses; keys come from fixed seeds, so that golden files hold.
type world struct {
	log       *tlog.Signer
	witnesses []*tlog.Signer
	policy    tlog.Policy
}

func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{policy: tlog.Policy{Origin: origin, Quorum: 2, At: now}}
	var err error
	w.log, err = tlog.NewSigner(origin, key(1))
	require.NoError(t, err)
	w.policy.LogKeys = []*tlog.Verifier{&w.log.Verifier}
	for i, name := range []string{"testimone.studio.example", "testimone.partner.example"} {
		c, err := tlog.NewCosigner(name, key(byte(2+i)), func() time.Time { return now })
		require.NoError(t, err)
		w.witnesses = append(w.witnesses, c)
		w.policy.Witnesses = append(w.policy.Witnesses, &c.Verifier)
	}
	return w
}

// sign signs and cosigns.
func (w *world) sign(t testing.TB, tree tlog.Tree) []byte {
	t.Helper()
	raw, err := tlog.Checkpoint{Origin: origin, Tree: tree}.Sign(w.log)
	require.NoError(t, err)
	bare := w.policy
	bare.Quorum = 0
	s, err := tlog.OpenCheckpoint(raw, bare)
	require.NoError(t, err)
	for _, c := range w.witnesses {
		line, err := tlog.Cosign(s, c)
		require.NoError(t, err)
		raw, err = tlog.AddSignatures(raw, line)
		require.NoError(t, err)
	}
	return raw
}

func (w *world) open(t testing.TB, tree tlog.Tree) *tlog.Signed {
	t.Helper()
	s, err := tlog.OpenCheckpoint(w.sign(t, tree), w.policy)
	require.NoError(t, err)
	return s
}

func TestCheckpointRoundTrip(t *testing.T) {
	w := newWorld(t)
	tree := tlog.Tree{Size: 20852163, Root: tlog.LeafHash([]byte("x"))}
	s := w.open(t, tree)
	require.Equal(t, tree, s.Tree)
	require.Equal(t, origin, s.Origin)
	require.Equal(t, []tlog.Cosignature{{"testimone.studio.example", now}, {"testimone.partner.example", now}}, s.Cosignatures)
	require.Equal(t, fmt.Sprintf("%s\n20852163\n%s\n", origin, tree.Root), string(s.Signed))
	c, err := tlog.ParseText(s.Signed)
	require.NoError(t, err)
	require.Equal(t, s.Checkpoint, c)
	for _, v := range append(w.policy.Witnesses, w.policy.LogKeys...) {
		again, err := tlog.ParseVerifier(v.String())
		require.NoError(t, err)
		require.Equal(t, v, again)
	}
	// A second cosignature of one witness takes the place of the first.
	later, err := tlog.NewCosigner(w.witnesses[0].Name(), key(2), func() time.Time { return now.Add(time.Hour) })
	require.NoError(t, err)
	line, err := tlog.Cosign(s, later)
	require.NoError(t, err)
	raw, err := tlog.AddSignatures(s.Raw, line)
	require.NoError(t, err)
	require.Equal(t, 3, strings.Count(string(raw), "— "))
	_, err = tlog.OpenCheckpoint(raw, w.policy)
	require.ErrorContains(t, err, "which is to come")
	p := w.policy
	p.At = time.Time{}
	_, err = tlog.OpenCheckpoint(raw, p)
	require.NoError(t, err)
}

// The example of the signed-note specification, and the reader of the Go checksum database on ours.
func TestNotesOfOthers(t *testing.T) {
	v, err := tlog.ParseVerifier("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
	require.NoError(t, err)
	n, err := note.Open([]byte("This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"),
		note.VerifierList(v))
	require.NoError(t, err)
	require.Len(t, n.Sigs, 1)

	w := newWorld(t)
	raw, err := tlog.Checkpoint{Origin: origin, Tree: tlog.EmptyTree()}.Sign(w.log)
	require.NoError(t, err)
	theirs, err := note.NewVerifier(w.log.String())
	require.NoError(t, err)
	_, err = note.Open(raw, note.VerifierList(theirs))
	require.NoError(t, err)
}

func TestPolicies(t *testing.T) {
	w := newWorld(t)
	raw := w.sign(t, tlog.Tree{Size: 1, Root: tlog.LeafHash([]byte("x"))})
	stranger, err := tlog.NewSigner(origin, key(9))
	require.NoError(t, err)
	twin, err := tlog.NewCosigner("gemello.example", key(2), func() time.Time { return now })
	require.NoError(t, err)
	text, lines, _ := strings.Cut(string(raw), "\n\n")
	sigs := strings.SplitAfter(lines, "\n")
	for name, c := range map[string]struct {
		raw    []byte
		change func(*tlog.Policy)
		want   error
		text   string
	}{
		"origin":            {change: func(p *tlog.Policy) { p.Origin = "altro.example" }, want: tlog.ErrOrigin},
		"unknown log key":   {change: func(p *tlog.Policy) { p.LogKeys = []*tlog.Verifier{&stranger.Verifier} }, want: tlog.ErrSignature},
		"no log signature":  {raw: []byte(text + "\n\n" + sigs[1] + sigs[2]), want: tlog.ErrSignature},
		"one witness":       {raw: []byte(text + "\n\n" + sigs[0] + sigs[2]), want: tlog.ErrQuorum},
		"one witness twice": {raw: []byte(text + "\n\n" + sigs[0] + sigs[2] + sigs[2]), want: tlog.ErrQuorum},
		"unsigned":          {raw: []byte(text + "\n"), want: tlog.ErrNote},
		"no text":           {raw: []byte("\n\n" + lines), want: tlog.ErrSignature},
		"too long":          {raw: bytes.Repeat([]byte("a\n"), 1<<15+1), want: tlog.ErrNote},
		"future":            {change: func(p *tlog.Policy) { p.At = now.Add(-time.Second) }, want: tlog.ErrSignature},
		"no origin":         {change: func(p *tlog.Policy) { p.Origin = "" }, text: "an origin"},
		"no key":            {change: func(p *tlog.Policy) { p.LogKeys = nil }, text: "key of the log"},
		"quorum":            {change: func(p *tlog.Policy) { p.Quorum = 3 }, text: "cannot be had"},
		"negative quorum":   {change: func(p *tlog.Policy) { p.Quorum = -1 }, text: "cannot be had"},
		"witness as log":    {change: func(p *tlog.Policy) { p.LogKeys = p.Witnesses }, text: "not a log's"},
		"log as witness":    {change: func(p *tlog.Policy) { p.Witnesses = append(p.LogKeys, p.Witnesses...) }, text: "not a witness's"},
		"one key, two names": {
			change: func(p *tlog.Policy) { p.Witnesses = append(p.Witnesses[:2:2], &twin.Verifier) }, text: "have one key",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, note := w.policy, raw
			if c.change != nil {
				c.change(&p)
			}
			if c.raw != nil {
				note = c.raw
			}
			_, err := tlog.OpenCheckpoint(note, p)
			require.Error(t, err)
			if c.want != nil {
				require.ErrorIs(t, err, c.want)
			}
			require.ErrorContains(t, err, c.text)
		})
	}
	two := w.policy
	two.LogKeys = append(two.LogKeys, &stranger.Verifier)
	_, err = tlog.OpenCheckpoint(raw, two)
	require.NoError(t, err, "one key of several is enough while keys change")
}

func TestTextsThatAreNoCheckpoint(t *testing.T) {
	root := tlog.LeafHash(nil).String()
	for name, text := range map[string]string{
		"empty": "", "two lines": "a\n1\n", "no end": "a\n1\n" + root, "no origin": "\n1\n" + root + "\n",
		"leading zero": "a\n01\n" + root + "\n", "sign": "a\n+1\n" + root + "\n", "negative": "a\n-1\n" + root + "\n",
		"beyond": "a\n9223372036854775808\n" + root + "\n", "short root": "a\n1\nAAAA\n", "root": "a\n1\n!\n",
		"stray bits": "a\n1\n" + root[:42] + string(root[42]+1) + "=\n", "empty tree": "a\n0\n" + root + "\n",
		"empty extension": "a\n1\n" + root + "\n\n", "control": "a\n1\n" + root + "\nb\r\n", "utf-8": "\xff\n1\n" + root + "\n",
		"long": strings.Repeat("a", 1<<17),
	} {
		_, err := tlog.ParseText([]byte(text))
		require.Error(t, err, name)
	}
	c, err := tlog.ParseText([]byte("a\n1\n" + root + "\none\ntwo\n"))
	require.NoError(t, err)
	require.Equal(t, []string{"one", "two"}, c.Extensions)
	require.Equal(t, "a\n1\n"+root+"\none\ntwo\n", string(c.Text()))

	w := newWorld(t)
	_, err = tlog.Checkpoint{Origin: "a\nb", Tree: tlog.EmptyTree()}.Sign(w.log)
	require.Error(t, err)
	_, err = tlog.Checkpoint{Origin: origin, Tree: tlog.EmptyTree()}.Sign()
	require.ErrorContains(t, err, "no signer")
}

func TestKeys(t *testing.T) {
	good := newWorld(t).log.String()
	name, rest, _ := strings.Cut(good, "+")
	for label, vkey := range map[string]string{
		"empty": "", "parts": name, "no key": name + "+00000000", "id": name + "+0000000g+" + rest[9:], "upper": strings.ToUpper(good),
		"other id": name + "+00000000+" + rest[9:], "base64": name + "+" + rest[:8] + "+!", "name": "a b+" + rest,
		"kind": name + "+00000000+" + base64.StdEncoding.EncodeToString(append([]byte{7}, make([]byte, 32)...)),
		"size": name + "+00000000+" + base64.StdEncoding.EncodeToString(append([]byte{1}, make([]byte, 31)...)),
	} {
		_, err := tlog.ParseVerifier(vkey)
		require.Error(t, err, label)
	}
	_, err := tlog.ParseVerifier(name + "+00000000+" + base64.StdEncoding.EncodeToString(append([]byte{6}, make([]byte, 1312)...)))
	require.ErrorContains(t, err, "ML-DSA-44 keys are not supported")

	_, err = tlog.NewSigner(origin, cmstest.NewECDSA(t))
	require.ErrorContains(t, err, "Ed25519")
	for _, bad := range []string{"", "a b", "a+b", "a\n", "a\u00a0b", "\xff", strings.Repeat("a", 256)} {
		_, err = tlog.NewSigner(bad, key(1))
		require.ErrorContains(t, err, "key name", bad)
	}
	_, err = tlog.NewCosigner("w", key(1), nil)
	require.ErrorContains(t, err, "clock")
	old, err := tlog.NewCosigner("w", key(1), func() time.Time { return time.Unix(0, 0) })
	require.NoError(t, err)
	_, err = old.Sign([]byte("x"))
	require.ErrorContains(t, err, "not after 1970")
	w := newWorld(t)
	s := w.open(t, tlog.EmptyTree())
	_, err = tlog.Cosign(s, w.log)
	require.ErrorContains(t, err, "not a witness's key")
	_, err = tlog.AddSignatures(s.Raw, []byte("no line"))
	require.ErrorIs(t, err, tlog.ErrNote)
	_, err = tlog.AddSignatures([]byte("no note"))
	require.ErrorIs(t, err, tlog.ErrNote)
	require.False(t, w.witnesses[0].Verify(s.Signed, make([]byte, 3)))
	require.False(t, w.witnesses[0].Verify(s.Signed, bytes.Repeat([]byte{0xff}, 72)))
}

// Any single change of a cosigned checkpoint is seen when the policy wants all who signed it.
func TestAnyChangeOfACheckpointIsSeen(t *testing.T) {
	w := newWorld(t)
	raw := w.sign(t, tlog.Tree{Size: 70000, Root: tlog.LeafHash([]byte("x"))})
	rapid.Check(t, func(rt *rapid.T) {
		bad := mutate(rt, raw)
		_, err := tlog.OpenCheckpoint(bad, w.policy)
		require.Error(rt, err, "%q", bad)
	})
}

// mutate changes, drops or adds one byte.
func mutate(rt *rapid.T, raw []byte) []byte {
	at := rapid.IntRange(0, len(raw)-1).Draw(rt, "at")
	out := bytes.Clone(raw)
	switch rapid.IntRange(0, 2).Draw(rt, "how") {
	case 0:
		out[at] ^= byte(rapid.IntRange(1, 255).Draw(rt, "xor"))
	case 1:
		out = append(out[:at], out[at+1:]...)
	case 2:
		out = append(out[:at], append([]byte{rapid.Byte().Draw(rt, "byte")}, raw[at:]...)...)
	}
	return out
}

// The rows of the table of attacks that a log answers, acted out.
func TestTamperTable(t *testing.T) {
	w := newWorld(t)
	d := entries(900)
	honest := &tlogtest.Memory{}
	l, err := tlog.Open(t.Context(), honest, tlog.EmptyTree())
	require.NoError(t, err)
	before := grow(t, l, d[:600])
	backup := honest.Clone()
	after := grow(t, l, d[600:])
	seen, got := w.open(t, before), w.open(t, after)
	proof, err := tlog.Consistency(t.Context(), honest, before.Size, after)
	require.NoError(t, err)

	judge := func(seen, got *tlog.Signed, proof []tlog.Hash, want tlog.Relation) {
		t.Helper()
		r, err := tlog.Judge(seen, got, proof)
		require.Equal(t, want, r)
		if want == tlog.Same || want == tlog.Grown {
			require.NoError(t, err)
			return
		}
		var v *tlog.ViolationError
		require.ErrorAs(t, err, &v)
		require.Equal(t, want, v.Relation)
		require.ErrorContains(t, err, "evidence")
	}
	judge(seen, seen, nil, tlog.Same)
	judge(seen, got, proof, tlog.Grown)
	judge(got, seen, nil, tlog.RolledBack) // an old backup is served

	t.Run("restored backup", func(t *testing.T) {
		_, err := tlog.Open(t.Context(), backup, after)
		require.Error(t, err, "the store of yesterday does not carry today's checkpoint: no writing")
	})
	for name, other := range map[string][][]byte{
		"entry removed":        append(append([][]byte{}, d[:10]...), d[11:]...),
		"entry inserted":       append(append(append([][]byte{}, d[:10]...), []byte("back-dated")), d[10:]...),
		"entry changed":        append(append(append([][]byte{}, d[:10]...), []byte("changed")), d[11:]...),
		"entries out of order": append(append(append([][]byte{}, d[:10]...), d[11], d[10]), d[12:]...),
	} {
		t.Run(name, func(t *testing.T) {
			fork := &tlogtest.Memory{}
			tree := build(t, fork, other)
			forked := w.open(t, tree) // the operator has the key and signs what it likes
			r, err := tlog.JudgeStore(t.Context(), fork, before, tree)
			require.Equal(t, tlog.Forked, r)
			require.Error(t, err)
			p, err := tlog.Consistency(t.Context(), fork, before.Size, tree)
			require.NoError(t, err)
			judge(seen, forked, p, tlog.Unproven)
			judge(seen, forked, proof, tlog.Unproven)
			if tree.Size == after.Size {
				judge(got, forked, nil, tlog.Forked)
			}
			// and a witness that saw the true tree does not cosign it
			raw, err := tlog.Checkpoint{Origin: origin, Tree: tree}.Sign(w.log)
			require.NoError(t, err)
			wit := &tlog.Witness{Origin: origin, LogKeys: w.policy.LogKeys, Key: w.witnesses[0]}
			req := tlog.Request{Old: before.Size, Proof: p, Checkpoint: raw}
			_, next, err := wit.Judge(before, req.Marshal())
			var refused *tlog.WitnessError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, 422, refused.Status)
			require.Equal(t, before, next)
		})
	}
	r, err := tlog.JudgeStore(t.Context(), honest, before, after)
	require.NoError(t, err)
	require.Equal(t, tlog.Grown, r)
	r, err = tlog.JudgeStore(t.Context(), honest, after, before)
	require.Equal(t, tlog.RolledBack, r)
	require.Error(t, err)
	_, err = tlog.JudgeStore(t.Context(), &tlogtest.Memory{}, before, after)
	require.ErrorIs(t, err, tlog.ErrNotFound)
	elsewhere := *seen
	elsewhere.Origin = "altro.example"
	_, err = tlog.Judge(&elsewhere, got, proof)
	require.ErrorIs(t, err, tlog.ErrOrigin)
}

func TestWitness(t *testing.T) {
	w := newWorld(t)
	s := &tlogtest.Memory{}
	l, err := tlog.Open(t.Context(), s, tlog.EmptyTree())
	require.NoError(t, err)
	d := entries(50)
	first := grow(t, l, d[:20])
	second := grow(t, l, d[20:])
	proof, err := tlog.Consistency(t.Context(), s, first.Size, second)
	require.NoError(t, err)
	wit := &tlog.Witness{Origin: origin, LogKeys: w.policy.LogKeys, Key: w.witnesses[0]}
	signed := func(tree tlog.Tree, name string, by *tlog.Signer) []byte {
		raw, err := tlog.Checkpoint{Origin: name, Tree: tree}.Sign(by)
		require.NoError(t, err)
		return raw
	}
	stranger, err := tlog.NewSigner(origin, key(9))
	require.NoError(t, err)
	ask := func(old int64, proof []tlog.Hash, checkpoint []byte) []byte {
		r := tlog.Request{Old: old, Proof: proof, Checkpoint: checkpoint}
		return r.Marshal()
	}

	line, next, err := wit.Judge(tlog.EmptyTree(), ask(0, nil, signed(first, origin, w.log)))
	require.NoError(t, err)
	require.Equal(t, first, next)
	raw, err := tlog.AddSignatures(signed(first, origin, w.log), line)
	require.NoError(t, err)
	one := w.policy
	one.Quorum = 1
	_, err = tlog.OpenCheckpoint(raw, one)
	require.NoError(t, err)
	_, next, err = wit.Judge(first, ask(20, proof, signed(second, origin, w.log)))
	require.NoError(t, err)
	require.Equal(t, second, next)
	_, _, err = wit.Judge(second, ask(50, nil, signed(second, origin, w.log)))
	require.NoError(t, err, "the same tree again is cosigned again")

	forked := second
	forked.Root[0] ^= 1
	// texts that Checkpoint.Sign refuses to sign
	rawSign := func(text string) []byte {
		out, err := note.Sign(&note.Note{Text: text}, w.log)
		require.NoError(t, err)
		return out
	}
	emptyRoot := rawSign(origin + "\n0\n" + second.Root.String() + "\n")
	unparsed := rawSign(origin + "\n050\n" + second.Root.String() + "\n")
	for name, c := range map[string]struct {
		last   tlog.Tree
		raw    []byte
		status int
	}{
		"garbage":       {first, []byte("x"), 400},
		"no old":        {first, []byte("alt 20\n\n" + string(signed(second, origin, w.log))), 400},
		"bad old":       {first, []byte("old 020\n\n" + string(signed(second, origin, w.log))), 400},
		"bad hash":      {first, []byte("old 20\nAAAA\n\n" + string(signed(second, origin, w.log))), 400},
		"no checkpoint": {first, []byte("old 20\n\nx"), 400},
		"old beyond":    {first, ask(51, nil, signed(second, origin, w.log)), 400},
		"long proof":    {first, ask(20, make([]tlog.Hash, 64), signed(second, origin, w.log)), 400},
		"unknown log":   {first, ask(20, proof, signed(second, "altro.example", w.log)), 404},
		"all unknown":   {first, ask(20, proof, signed(second, "altro.example", stranger)), 404},
		"bad signature": {first, ask(20, proof, bytes.Replace(signed(second, origin, w.log), []byte("\n50\n"), []byte("\n51\n"), 1)), 403},
		"extension":     {first, ask(20, proof, unparsed), 400},
		"empty root":    {tlog.EmptyTree(), ask(0, nil, emptyRoot), 422},
		"unsigned":      {first, ask(20, proof, signed(second, origin, stranger)), 403},
		"stale":         {second, ask(20, proof, signed(second, origin, w.log)), 409},
		"fork":          {second, ask(50, nil, signed(forked, origin, w.log)), 422},
		"proof":         {first, ask(20, proof[1:], signed(second, origin, w.log)), 422},
		"needless":      {tlog.EmptyTree(), ask(0, proof, signed(second, origin, w.log)), 422},
	} {
		t.Run(name, func(t *testing.T) {
			line, next, err := wit.Judge(c.last, c.raw)
			var refused *tlog.WitnessError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, c.status, refused.Status, refused.Reason)
			require.Equal(t, c.last.Size, refused.Size)
			require.Equal(t, c.last, next)
			require.Nil(t, line)
		})
	}
	broken := &tlog.Witness{Origin: origin, LogKeys: w.policy.LogKeys, Key: w.log}
	_, _, err = broken.Judge(first, ask(20, proof, signed(second, origin, w.log)))
	require.ErrorContains(t, err, "500")
}
