package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/tlogtest"
)

// shelf is an archive of two packages, of which it can export anything.
type shelf struct {
	*logged
	w *workshop

	store   *tlogtest.Memory
	log     *tlog.Log
	tails   map[string]*tlog.Tail
	entries []tlog.Entry
	named   map[string][]tlog.Entry // by owner
	tree    tlog.Tree
	raw     [2][]byte
	packs   [2]*custody.Package
}

func openShelf(t *testing.T) *shelf {
	t.Helper()
	ctx := context.Background()
	s := &shelf{logged: openLog(t), w: openWorkshop(t, nil), store: &tlogtest.Memory{}, tails: map[string]*tlog.Tail{}, named: map[string][]tlog.Entry{}}
	var err error
	s.log, err = tlog.Open(ctx, s.store, tlog.EmptyTree())
	require.NoError(t, err)
	s.raw[0], err = os.ReadFile("testdata/inspect/package.zip")
	require.NoError(t, err)
	s.packs[0], err = custody.ReadPackage(s.raw[0])
	require.NoError(t, err)
	const other = "0199d2f0-0000-7000-8000-00000000beef"
	s.raw[1] = rebagged(t, s.raw[0], func(files map[string][]byte) {
		const index, signed = "data/PIndex.xml", "data/PIndex.xml.p7m"
		for name := range files {
			if strings.HasPrefix(name, "revocation/") {
				delete(files, name)
			}
		}
		files[index] = bytes.ReplaceAll(files[index], []byte(s.packs[0].ID), []byte(other))
		files[signed] = s.w.sign(files[index])
		files[signed+".tsr"] = s.w.stamp(files[signed])
	})
	s.packs[1], err = custody.ReadPackage(s.raw[1])
	require.NoError(t, err)
	require.Equal(t, other, s.packs[1].ID)
	for _, u := range s.packs[0].Units {
		objects, note := custody.UnitObjects(u.ID, u.Files)
		s.add("acme", custody.Taken, objects, note)
		s.add("beta", custody.Taken, objects, note)
	}
	for n, p := range s.packs {
		objects := custody.PackageObjects(p.ID, p.Sum, [32]byte{1}, [32]byte{2})
		s.add("acme", custody.Sealed, objects, "")
		if n == 1 {
			s.add("beta", custody.Sealed, objects, "")
		}
	}
	s.tree, err = s.log.Commit(ctx)
	require.NoError(t, err)
	return s
}

func (s *shelf) add(owner, kind string, objects []tlog.Hash, note string) {
	if s.tails[owner] == nil {
		s.tails[owner] = &tlog.Tail{Tenant: tlog.TenantTag([]byte("k"), owner)}
	}
	leaf, err := s.tails[owner].Next(kind, day, objects, note)
	require.NoError(s.t, err)
	entry, err := leaf.Marshal()
	require.NoError(s.t, err)
	index, err := s.log.Append(context.Background(), entry)
	require.NoError(s.t, err)
	e := tlog.Entry{Index: index, Data: entry}
	_, err = s.tails[owner].Follow(e)
	require.NoError(s.t, err)
	s.entries, s.named[owner] = append(s.entries, e), append(s.named[owner], e)
}

// fork is a log of the same leaves that goes on by itself.
func (s *shelf) fork() *shelf {
	f := *s
	f.store, f.tails, f.entries, f.named = s.store.Clone(), map[string]*tlog.Tail{}, slices.Clone(s.entries), map[string][]tlog.Entry{}
	for owner, tail := range s.tails {
		own := *tail
		f.tails[owner], f.named[owner] = &own, slices.Clone(s.named[owner])
	}
	var err error
	f.log, err = tlog.Open(context.Background(), f.store, s.tree)
	require.NoError(s.t, err)
	return &f
}

func (s *shelf) note(tree tlog.Tree) []byte {
	note, err := tlog.Checkpoint{Origin: "log.test", Tree: tree}.Sign(s.signer)
	require.NoError(s.t, err)
	return note
}

func (s *shelf) proof(e tlog.Entry) []byte {
	proof, err := tlog.Inclusion(context.Background(), s.store, s.tree, e.Index)
	require.NoError(s.t, err)
	text, err := (&tlog.Receipt{Index: e.Index, Proof: proof, Checkpoint: s.note(s.tree), Entry: e.Data}).Marshal()
	require.NoError(s.t, err)
	return text
}

// receipts are those of a package and of its units, as an owner has them.
func (s *shelf) receipts(owner string, n int) []byte {
	files, units := map[string][]byte{}, len(s.packs[n].Units)
	for i := range units {
		files[fmt.Sprintf("units/%d.tlog-proof", i)] = s.proof(s.named[owner][i])
	}
	at := units + n
	if owner == "beta" {
		at = units
	}
	files["package.tlog-proof"] = s.proof(s.named[owner][at])
	return zipped(s.t, files)
}

func (s *shelf) rdv(w *workshop, e tlog.Entry) (p7m, stamp []byte) {
	u, files := s.packs[0].Units[0], ""
	for _, sum := range u.Files {
		files += "<File><ImprontaCrittograficaDelDocumento><Impronta>" + base64.StdEncoding.EncodeToString(sum[:]) + "</Impronta></ImprontaCrittograficaDelDocumento></File>"
	}
	p7m = w.sign(fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?>
<RapportoDiVersamento xmlns="https://ceralacca.dev/schemi/rdv/1" versione="1"><Identificativo>tenants/acme/deposits/1</Identificativo>`+
		`<UnitaDocumentaria><Identificativo>tenants/acme/units/%s</Identificativo>%s</UnitaDocumentaria>`+
		`<Registro><Prova>%s</Prova></Registro></RapportoDiVersamento>
`, u.ID, files, s.proof(e)))
	return p7m, w.stamp(p7m)
}

// files are those of a whole export.
func (s *shelf) files() map[string][]byte {
	files := map[string][]byte{exportPoint: s.note(s.tree), exportUnits: fmt.Appendf(nil, "{\"package\":%q}\n{\"package\":%q}\n{}\n", s.packs[0].ID, s.packs[1].ID)}
	for n, p := range s.packs {
		files["data/packages/"+p.ID+".zip"] = s.raw[n]
		files["data/receipts/"+p.ID+".zip"] = s.receipts("acme", n)
	}
	for _, e := range s.named["acme"] {
		files[exportLeaves] = append(append(files[exportLeaves], e.Data...), '\n')
	}
	files[exportLast] = s.proof(s.named["acme"][len(s.named["acme"])-1])
	files["data/rdv/1.xml.p7m"], files["data/rdv/1.xml.p7m.tsr"] = s.rdv(s.w, s.named["acme"][0])
	return files
}

// write signs and stamps a folder of these files; what lies beside data is put there afterwards.
func (s *shelf) write(files map[string][]byte) string {
	dir := s.t.TempDir()
	var manifest bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasPrefix(name, "data/") {
			fmt.Fprintf(&manifest, "%x  %s\n", sha256.Sum256(files[name]), name)
		}
	}
	all := maps.Clone(files)
	all[exportManifest] = manifest.Bytes()
	all[exportManifest+".p7m"] = s.w.sign(manifest.Bytes())
	all[exportManifest+".p7m.tsr"] = s.w.stamp(all[exportManifest+".p7m"])
	for name, content := range all {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(s.t, os.WriteFile(path, content, 0o600))
	}
	return dir
}

// TestExportAsAWhole: what holds piece by piece, and is not all that there is, or not of one owner or of one log.
func TestExportAsAWhole(t *testing.T) {
	s := openShelf(t)
	first, second, units := s.packs[0].ID, s.packs[1].ID, len(s.packs[0].Units)
	withoutSecond := func(files map[string][]byte) {
		delete(files, "data/packages/"+second+".zip")
		delete(files, "data/receipts/"+second+".zip")
		files[exportUnits] = fmt.Appendf(nil, "{\"package\":%q}\n", first)
	}
	withoutChain := func(files map[string][]byte) { delete(files, exportLeaves); delete(files, exportLast) }
	stranger, roots := openWorkshop(t, s.w), filepath.Join(t.TempDir(), "roots.pem")
	later := s.fork()
	later.add("beta", custody.Taken, custody.ReportObjects("2", [32]byte{2}), "")
	var err error
	later.tree, err = later.log.Commit(context.Background())
	require.NoError(t, err)
	others, err := os.ReadFile("testdata/inspect/roots.pem")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(roots, append(others, s.w.authority.CertPEM()...), 0o600))
	for name, c := range map[string]struct {
		change func(files map[string][]byte)
		code   int
		says   string
	}{
		"whole":                           {func(map[string][]byte) {}, exitOK, fmt.Sprintf("leaves 1 to %d are all there", units+2)},
		"of before, when it had no chain": {withoutChain, exitOK, "follow each other"},
		"the last checkpoint is not the last": {func(f map[string][]byte) {
			f["data/rdv/1.xml.p7m"], f["data/rdv/1.xml.p7m.tsr"] = later.rdv(s.w, s.named["acme"][0])
		}, exitRefused, custody.LogRolledBack},
		"a package is left out":            {withoutSecond, exitUsage, fmt.Sprintf("the packages of the owner's leaves %d", units+2)},
		"left out, and named by the index": {func(f map[string][]byte) { i := f[exportUnits]; withoutSecond(f); f[exportUnits] = i }, exitRefused, exportMissing},
		"a gap that nothing shows": {func(f map[string][]byte) {
			withoutSecond(f)
			withoutChain(f)
			f["data/packages/"+second+".zip"], f["data/receipts/"+second+".zip"] = s.raw[1], s.receipts("acme", 1)
			delete(f, "data/packages/"+first+".zip")
			f[exportUnits] = []byte("{}\n")
		}, exitUsage, fmt.Sprintf("the owner's leaves %d:", units+1)},
		"a package of another owner": {func(f map[string][]byte) { f["data/receipts/"+second+".zip"] = s.receipts("beta", 1) }, exitRefused, custody.ForeignLeaf},
		"the last checkpoint is a stranger's": {func(f map[string][]byte) {
			other, err := tlog.NewSigner("log.test", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize)))
			require.NoError(t, err)
			f[exportPoint], err = tlog.Checkpoint{Origin: "log.test", Tree: s.tree}.Sign(other)
			require.NoError(t, err)
		}, exitRefused, custody.CheckpointBad},
		"the last checkpoint is of another log": {func(f map[string][]byte) { f[exportPoint] = s.note(tlog.Tree{Size: s.tree.Size, Root: tlog.Hash{7}}) }, exitRefused, custody.LogForked},
		"the last checkpoint is before them": {func(f map[string][]byte) {
			withoutChain(f)
			f[exportPoint] = s.note(tlog.Tree{Size: 1, Root: tlog.LeafHash(s.entries[0].Data)})
		}, exitRefused, custody.ReceiptGone},
		"the chain has other leaves": {func(f map[string][]byte) {
			f[exportLeaves] = bytes.ReplaceAll(f[exportLeaves], []byte(day.Format("2006")), []byte("2001"))
		}, exitRefused, custody.ChainBroken},
		"the chain lacks a leaf": {func(f map[string][]byte) {
			_, f[exportLeaves], _ = bytes.Cut(f[exportLeaves], []byte("\n"))
		}, exitRefused, custody.ChainBroken},
		"the chain is cut": {func(f map[string][]byte) {
			lines := bytes.SplitAfter(f[exportLeaves], []byte("\n"))
			f[exportLeaves] = bytes.Join(lines[:len(lines)-2], nil)
		}, exitRefused, custody.ChainBroken},
		"the chain is another owner's": {func(f map[string][]byte) {
			f[exportLeaves] = nil
			for _, e := range s.named["beta"] {
				f[exportLeaves] = append(append(f[exportLeaves], e.Data...), '\n')
			}
			f[exportLast] = s.proof(s.named["beta"][len(s.named["beta"])-1])
		}, exitRefused, custody.ForeignLeaf},
		"a report that a stranger signed": {func(f map[string][]byte) {
			f["data/rdv/1.xml.p7m"], f["data/rdv/1.xml.p7m.tsr"] = s.rdv(stranger, s.named["acme"][0])
		}, exitRefused, custody.SubmissionInvalid},
		"a report with another's stamp": {func(f map[string][]byte) { f["data/rdv/1.xml.p7m.tsr"] = s.w.stamp([]byte("another")) }, exitRefused, custody.SubmissionInvalid},
		"a report of another unit": {func(f map[string][]byte) {
			f["data/rdv/1.xml.p7m"], f["data/rdv/1.xml.p7m.tsr"] = s.rdv(s.w, s.named["acme"][units])
		}, exitRefused, custody.SubmissionInvalid},
		"a report of another owner": {func(f map[string][]byte) {
			f["data/rdv/1.xml.p7m"], f["data/rdv/1.xml.p7m.tsr"] = s.rdv(s.w, s.named["beta"][0])
		}, exitRefused, custody.ForeignLeaf},
		"a report that is none":      {func(f map[string][]byte) { f["data/rdv/1.xml.p7m"] = s.w.sign([]byte("<x/>")) }, exitRefused, custody.SubmissionInvalid},
		"a report without its stamp": {func(f map[string][]byte) { delete(f, "data/rdv/1.xml.p7m.tsr") }, exitUsage, "the time stamp"},
		"no last checkpoint":         {func(f map[string][]byte) { delete(f, exportPoint); withoutChain(f) }, exitUsage, "there is no last checkpoint"},
		"a file beside it":           {func(f map[string][]byte) { f["LEGGIMI.html"] = []byte("<x/>") }, exitRefused, exportInserted},
		"a folder beside it":         {func(f map[string][]byte) { f["fatture/1.xml"] = []byte("<x/>") }, exitRefused, exportInserted},
		"a tag file that was changed": {func(f map[string][]byte) {
			f["bagit.txt"], f[exportTags] = []byte("x"), fmt.Appendf(nil, "%x  bagit.txt\n", sha256.Sum256([]byte("y")))
		}, exitRefused, exportChanged},
	} {
		t.Run(name, func(t *testing.T) {
			files := s.files()
			c.change(files)
			got := command(t, "", "conserve", "verify", s.write(files), "--log-key", s.key, "--roots", roots)
			require.Equal(t, c.code, got.code, got.out+got.errOut)
			require.Contains(t, got.out, c.says)
		})
	}
	got := command(t, "", "conserve", "verify", s.write(s.files()), "--log-key", s.key, "--quorum", "1")
	require.Equal(t, exitRefused, got.code, "no witness cosigned the receipts: "+got.out)
}

// TestExportLinksItsCheckpoints: two histories that differ in the leaves of others alone, at a size that nothing but a report shows, are told by the
// proofs that an export brings of each size; without them nothing is called good.
func TestExportLinksItsCheckpoints(t *testing.T) {
	ctx, s := context.Background(), openShelf(t)
	others := func(s *shelf, name string, to int64) {
		for n := int64(len(s.entries)); n < to; n++ {
			objects, note := custody.UnitObjects(fmt.Sprint(name, n), [][32]byte{{byte(n)}})
			s.add("beta", custody.Taken, objects, note)
		}
		var err error
		s.tree, err = s.log.Commit(ctx)
		require.NoError(t, err)
	}
	require.Less(t, s.tree.Size, int64(16), "the leaves of acme lie before those that differ")
	others(s, "u", 20)
	f := s.fork()
	others(s, "u", 21)
	before, signed := s.tree, map[bool][2][]byte{}
	p7m, stamp := s.rdv(s.w, s.named["acme"][0])
	signed[false] = [2][]byte{p7m, stamp}
	others(f, "v", 21)
	p7m, stamp = f.rdv(s.w, f.named["acme"][0])
	signed[true] = [2][]byte{p7m, stamp}
	require.NotEqual(t, before, f.tree)
	others(s, "u", 30)
	proof, err := tlog.Consistency(ctx, s.store, before.Size, s.tree)
	require.NoError(t, err)
	line := func(size int64) string {
		var out bytes.Buffer
		require.NoError(t, custody.WriteGrowth(&out, size, proof))
		return out.String()
	}
	roots := filepath.Join(t.TempDir(), "roots.pem")
	given, err := os.ReadFile("testdata/inspect/roots.pem")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(roots, append(given, s.w.authority.CertPEM()...), 0o600))
	for name, c := range map[string]struct {
		forked bool
		growth string
		code   int
		says   string
	}{
		"proven":                      {false, line(21), exitOK, "the log of 30 entries grew out of what it was at 1 other sizes"},
		"proven, and one more":        {false, line(20) + line(21), exitOK, "grew out of what it was at 1 other sizes"},
		"of before":                   {false, "", exitUsage, "that the log of 21 entries is one history with the one of 30"},
		"forked":                      {true, line(21), exitRefused, custody.LogUnproven},
		"forked, and of before":       {true, "", exitUsage, "that the log of 21 entries is one history with the one of 30"},
		"forked, and not told of":     {true, line(20), exitUsage, "that the log of 21 entries is one history with the one of 30"},
		"another proof":               {false, `{"size":21,"proof":[]}` + "\n", exitRefused, custody.LogUnproven},
		"no line":                     {false, "x\n", exitRefused, custody.LogUnproven},
		"in no order":                 {false, line(21) + line(20), exitRefused, custody.LogUnproven},
		"of more than there is":       {false, line(31), exitRefused, custody.LogUnproven},
		"of a byte order mark":        {false, "\ufeff" + line(21), exitRefused, custody.LogUnproven},
		"twice":                       {false, line(21) + line(21), exitRefused, custody.LogUnproven},
		"beyond all numbers":          {false, `{"size":9223372036854775808,"proof":[]}` + "\n", exitRefused, custody.LogUnproven},
		"with the line ends of DOS":   {false, strings.ReplaceAll(line(21), "\n", "\r\n"), exitOK, "grew out of what it was at 1 other sizes"},
		"longer than any line may be": {false, strings.Repeat(" ", 1<<20) + line(21), exitRefused, custody.LogUnproven},
	} {
		t.Run(name, func(t *testing.T) {
			files := s.files()
			files["data/rdv/1.xml.p7m"], files["data/rdv/1.xml.p7m.tsr"] = signed[c.forked][0], signed[c.forked][1]
			if c.growth != "" {
				files[exportGrowth] = []byte(c.growth)
			}
			got := command(t, "", "conserve", "verify", s.write(files), "--log-key", s.key, "--roots", roots)
			require.Equal(t, c.code, got.code, got.out+got.errOut)
			require.Contains(t, got.out, c.says)
		})
	}
}

// TestExportOfDestructions: the report of a destruction, by which a package may be missing, is what the log states, and was signed by who could then.
func TestExportOfDestructions(t *testing.T) {
	s := openShelf(t)
	stranger := openWorkshop(t, s.w)
	second := s.packs[1].ID
	content := fmt.Appendf(nil, `{"report":"scarto","disposal":"tenants/acme/disposals/1","packages":[{"package":"tenants/acme/packages/%s","erased":"2026-01-02T03:04:05Z"}]}`, second)
	reports := map[bool][]byte{true: s.w.sign(content), false: stranger.sign(content)}
	leaves := map[bool]tlog.Entry{}
	for _, own := range []bool{true, false} {
		s.add("acme", custody.Reported, custody.ReportObjects("1", sha256.Sum256(reports[own])), "")
		leaves[own] = s.entries[len(s.entries)-1]
	}
	var err error
	s.tree, err = s.log.Commit(context.Background())
	require.NoError(t, err)
	text, _, _ := bytes.Cut(s.note(s.tree), []byte("\n\n"))
	proof := func(e tlog.Entry, stamp []byte) []byte {
		r, err := tlog.ParseReceipt(s.proof(e))
		require.NoError(t, err)
		r.Stamp = stamp
		raw, err := r.Marshal()
		require.NoError(t, err)
		return raw
	}
	stamp, other := s.w.stamp(append(bytes.Clone(text), '\n')), s.w.stamp([]byte("another"))
	roots := filepath.Join(t.TempDir(), "roots.pem")
	given, err := os.ReadFile("testdata/inspect/roots.pem")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(roots, append(given, s.w.authority.CertPEM()...), 0o600))
	for name, c := range map[string]struct {
		report []byte
		proof  []byte
		years  int
		code   int
		says   string
	}{
		"stated and stamped":                       {reports[true], proof(leaves[true], stamp), 0, exitOK, "are all there"},
		"its certificate has ended since":          {reports[true], proof(leaves[true], stamp), 20, exitOK, "are all there"},
		"stated":                                   {reports[true], proof(leaves[true], nil), 0, exitOK, "are all there"},
		"stated, and its certificate has ended":    {reports[true], proof(leaves[true], nil), 20, exitUsage, "who signed it"},
		"of before":                                {reports[true], nil, 0, exitUsage, "that the log states it"},
		"of before, and its certificate has ended": {reports[true], nil, 20, exitUsage, "who signed it"},
		"a stranger's":                             {reports[false], proof(leaves[true], stamp), 0, exitRefused, custody.ReceiptElsewhere},
		"a stranger's, and stated":                 {reports[false], proof(leaves[false], stamp), 0, exitRefused, custody.ReportInvalid},
		"with the proof of a package":              {reports[true], proof(s.named["acme"][0], stamp), 0, exitRefused, custody.ReceiptElsewhere},
		"with another's stamp":                     {reports[true], proof(leaves[true], other), 0, exitRefused, custody.ReceiptInvalid},
		"with a proof that is none":                {reports[true], []byte("x"), 0, exitRefused, custody.ReceiptInvalid},
		"changed":                                  {append(bytes.Clone(reports[true]), 0), proof(leaves[true], stamp), 0, exitRefused, custody.ReceiptElsewhere},
	} {
		t.Run(name, func(t *testing.T) {
			files := s.files()
			delete(files, "data/packages/"+second+".zip")
			delete(files, "data/receipts/"+second+".zip")
			files[exportUnits] = fmt.Appendf(nil, "{\"package\":%q}\n", s.packs[0].ID)
			files["data/disposals/1.json.p7m"] = c.report
			if c.proof != nil {
				files["data/log/disposals/1.tlog-proof"] = c.proof
			}
			got := later(day.AddDate(c.years, 0, 0), "conserve", "verify", s.write(files), "--log-key", s.key, "--roots", roots)
			require.Equal(t, c.code, got.code, got.out+got.errOut)
			require.Contains(t, got.out, c.says)
		})
	}
}

// TestExportOfWaiting: documents that no package held yet are what was taken in charge.
func TestExportOfWaiting(t *testing.T) {
	s := openShelf(t)
	const id, late = "0199d2f0-0000-7000-8000-00000000cafe", "0199d2f0-0000-7000-8000-00000000d00d"
	document, metadata, receipt := []byte("Egregio dottore"), []byte("<m/>"), []byte("<r/>")
	leaf := func(kind, unit string, files ...[]byte) {
		var sums [][32]byte
		for _, f := range files {
			sums = append(sums, sha256.Sum256(f))
		}
		objects, note := custody.UnitObjects(unit, sums)
		s.add("acme", kind, objects, note)
	}
	leaf(custody.Taken, id, document, metadata)
	leaf(custody.Taken, late, document, metadata)
	leaf(custody.Extended, late, document, receipt, metadata)
	var err error
	s.tree, err = s.log.Commit(context.Background())
	require.NoError(t, err)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	given, err := os.ReadFile("testdata/inspect/roots.pem")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(roots, append(given, s.w.authority.CertPEM()...), 0o600))
	for name, c := range map[string]struct {
		change func(files map[string][]byte)
		code   int
		says   string
	}{
		"as it was taken":        {func(map[string][]byte) {}, exitOK, "2 documents that wait for their package have the files that their leaves name"},
		"changed":                {func(f map[string][]byte) { f[id+"/00.txt"] = []byte("Egregia dottoressa") }, exitRefused, custody.UnitChanged},
		"its files change place": {func(f map[string][]byte) { f[id+"/00.txt"], f[id+"/01.xml"] = metadata, document }, exitRefused, custody.UnitChanged},
		"a file is missing":      {func(f map[string][]byte) { delete(f, id+"/01.xml") }, exitRefused, custody.UnitChanged},
		"a file more":            {func(f map[string][]byte) { f[id+"/02.xml"] = receipt }, exitRefused, custody.UnitChanged},
		"as before it was extended": {func(f map[string][]byte) {
			f[late+"/01.xml"] = metadata
			delete(f, late+"/02.xml")
		}, exitUsage, "as it was before"},
		"it is missing":           {func(f map[string][]byte) { delete(f, id+"/00.txt"); delete(f, id+"/01.xml") }, exitRefused, exportMissing},
		"one that nothing states": {func(f map[string][]byte) { f["0199d2f0-0000-7000-8000-0000000000ff/00.txt"] = document }, exitUsage, "no leaf here names its files"},
		"no number":               {func(f map[string][]byte) { f[id+"/x.txt"] = document }, exitRefused, exportUnreadable},
		"two spellings":           {func(f map[string][]byte) { f[id+"/0.txt"] = document }, exitRefused, exportUnreadable},
	} {
		t.Run(name, func(t *testing.T) {
			inside := map[string][]byte{id + "/00.txt": document, id + "/01.xml": metadata, late + "/00.txt": document, late + "/01.xml": receipt, late + "/02.xml": metadata, "units.jsonl": []byte("{}\n")}
			c.change(inside)
			files := s.files()
			files["data/waiting/0001.zip"] = zipped(t, inside)
			files[exportUnits] = append(files[exportUnits], fmt.Appendf(nil, "{\"unit\":%q}\n{\"unit\":%q}\n", id, late)...)
			got := command(t, "", "conserve", "verify", s.write(files), "--log-key", s.key, "--roots", roots)
			require.Equal(t, c.code, got.code, got.out+got.errOut)
			require.Contains(t, got.out, c.says)
		})
	}
}

// TestExportOfNoFiles: what stands in the place of a file of an export is a file in its folder; a link leads out of what was handed over, and of a
// device or a pipe there is no end.
func TestExportOfNoFiles(t *testing.T) {
	s := openShelf(t)
	const name = "data/rdv/1.xml.p7m"
	for what, replace := range map[string]func(path string) error{
		"a link to the same bytes": func(path string) error {
			other := filepath.Join(t.TempDir(), "elsewhere")
			return errors.Join(os.Rename(path, other), os.Symlink(other, path))
		},
		"a link to a device": func(path string) error { return errors.Join(os.Remove(path), os.Symlink(os.DevNull, path)) },
		"a folder":           func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		for _, name := range []string{name, exportUnits, exportLeaves} {
			t.Run(what+" for "+name, func(t *testing.T) {
				dir := s.write(s.files())
				require.NoError(t, replace(filepath.Join(dir, filepath.FromSlash(name))))
				got := command(t, "", "conserve", "verify", dir, "--log-key", s.key)
				require.Equal(t, exitRefused, got.code, got.out+got.errOut)
				require.Contains(t, got.out, "it is no file")
			})
		}
	}
}

// TestExportWithoutTheKey: what the log proves is judged only with its key, and is not called good without it.
func TestExportWithoutTheKey(t *testing.T) {
	s := openShelf(t)
	got := command(t, "", "conserve", "verify", s.write(s.files()))
	require.Equal(t, exitUsage, got.code, got.out+got.errOut)
	require.Contains(t, got.out, "no key of the log")
	require.NotContains(t, got.out, "by their receipts")
}
