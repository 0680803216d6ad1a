package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/pdd"
	"ceralacca.dev/services/format/sincro"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/tlogtest"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/tsa"
)

// workshop has what somebody needs who makes packages of their own: a key with a certificate, and an authority that stamps whatever it
// is given, which is what authorities do.
type workshop struct {
	t         *testing.T
	authority *ca.CA
	signer    cades.Signer
	stamps    *tsp.Client
	roots     string // file of who signs and of who stamps
}

// openWorkshop has its own authorities; stamps come from those of another one when it is given.
func openWorkshop(t *testing.T, honest *workshop) *workshop {
	t.Helper()
	now := func() time.Time { return day }
	authority, err := ca.New(ca.Options{Now: now})
	require.NoError(t, err)
	w := &workshop{t: t, authority: authority, roots: filepath.Join(t.TempDir(), "roots.pem")}
	require.NoError(t, os.WriteFile(w.roots, authority.CertPEM(), 0o600))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Responsabile"}}, key)
	require.NoError(t, err)
	cert, err := authority.SignCSR(csr, ca.ProfileRole)
	require.NoError(t, err)
	w.signer = cades.Signer{Chain: []*x509.Certificate{cert, authority.Certificate()}, Key: key}
	if honest != nil {
		w.stamps = honest.stamps
		return w
	}
	stamps, err := tsa.New(tsa.Options{CA: authority, Now: now})
	require.NoError(t, err)
	web := httptest.NewServer(stamps)
	t.Cleanup(web.Close)
	w.stamps = &tsp.Client{URL: web.URL, HTTP: web.Client(), Roots: authority.Pool(), Now: now}
	return w
}

func (w *workshop) sign(content []byte) []byte {
	p7m, err := cades.Sign(context.Background(), content, w.signer, cades.Options{SigningTime: day})
	require.NoError(w.t, err)
	return p7m
}

func (w *workshop) stamp(content []byte) []byte {
	sum := sha256.Sum256(content)
	token, err := w.stamps.Stamp(context.Background(), sum[:])
	require.NoError(w.t, err)
	return token.Raw
}

// zipped writes files in the order of their names.
func zipped(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, err := w.Create(name)
		require.NoError(t, err)
		_, err = f.Write(files[name])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

// later runs the tool at another time.
func later(at time.Time, args ...string) answer {
	var out, errOut bytes.Buffer
	c := &cli{in: strings.NewReader(""), out: &out, errOut: &errOut, now: func() time.Time { return at }}
	code := c.run(context.Background(), args)
	return answer{out.String(), errOut.String(), code}
}

// TestForgedPackages: what an archive, or whoever has its packages, could hand out as one that verifies. Roots are given, and every
// stamp is a good one, since authorities stamp what they are given.
func TestForgedPackages(t *testing.T) {
	honest := openWorkshop(t, nil)
	stranger := openWorkshop(t, honest)
	raw, err := os.ReadFile("testdata/inspect/package.zip")
	require.NoError(t, err)
	detached, err := cades.SignDetached(context.Background(), func() []byte { sum := sha256.Sum256(nil); return sum[:] }(), honest.signer, cades.Options{SigningTime: day})
	require.NoError(t, err)
	const index, signed, stamp = "data/PIndex.xml", "data/PIndex.xml.p7m", "data/PIndex.xml.p7m.tsr"
	for name, c := range map[string]struct {
		p7m  func(index []byte) []byte
		good bool
	}{
		"as it should be":        {honest.sign, true},
		"by a stranger":          {stranger.sign, false},
		"over something else":    {func([]byte) []byte { return honest.sign([]byte("<x/>")) }, false},
		"detached, over nothing": {func([]byte) []byte { return detached }, false},
		"the index itself":       {func(index []byte) []byte { return index }, false},
		"a time stamp":           {func(index []byte) []byte { return honest.stamp(index) }, false},
		"a certificate":          {func([]byte) []byte { return honest.authority.CertPEM() }, false},
		"a mail":                 {func([]byte) []byte { return []byte("From: a@b.example\r\nMessage-ID: <a@b.example>\r\n\r\n") }, false},
		"nothing":                {func([]byte) []byte { return []byte{} }, false},
		"another package":        {func([]byte) []byte { return raw }, false},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "package.zip")
			require.NoError(t, os.WriteFile(file, rebagged(t, raw, func(files map[string][]byte) {
				for other := range files {
					if strings.HasPrefix(other, "revocation/") {
						delete(files, other)
					}
				}
				files[signed] = c.p7m(files[index])
				files[stamp] = honest.stamp(files[signed])
			}), 0o600))
			got := command(t, "", "conserve", "verify", file, "--roots", honest.roots)
			require.Equal(t, c.good, got.code == exitOK, got.out+got.errOut)
			require.Equal(t, c.good, command(t, "", "inspect", file, "--roots", honest.roots).code == exitOK)
		})
	}
	t.Run("when its certificate ended", func(t *testing.T) {
		got := later(day.AddDate(9, 0, 0), "conserve", "verify", "testdata/inspect/package.zip", "--roots", "testdata/inspect/roots.pem")
		require.Equal(t, exitOK, got.code, "the stamp says that it was signed before: "+got.out+got.errOut)
	})
}

// forgedDistribution is a PdD of one document and, when it is given, the proof of the log of it, signed and stamped.
func forgedDistribution(t *testing.T, w *workshop, book *logged) map[string][]byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/inspect/PIndex.xml")
	require.NoError(t, err)
	var group sincro.FileGroup
	head, err := sincro.Read(bytes.NewReader(raw), func(g sincro.FileGroup) error { group = g; return nil })
	require.NoError(t, err)
	document := []byte("<x/>")
	group.Files, group.Metadata = group.Files[:1], nil
	group.Files[0].Path, group.Files[0].Hash = "documenti/x.xml", sincro.HashOf(sha256.Sum256(document))
	files, groups := map[string][]byte{"documenti/x.xml": document}, []sincro.FileGroup{group}
	if book != nil {
		proof := group
		name := pdd.UnitProof + "/" + group.ID.Value + pdd.ProofSuffix
		files[name] = book.receipt(group.ID.Value, document)
		proof.ID.Value, proof.Files = "altro", slices.Clone(group.Files)
		proof.Files[0].Path, proof.Files[0].Hash = name, sincro.HashOf(sha256.Sum256(files[name]))
		groups = append(groups, proof)
	}
	var index bytes.Buffer
	require.NoError(t, sincro.Write(&index, head, func(yield func(sincro.FileGroup, error) bool) {
		for _, g := range groups {
			if !yield(g, nil) {
				return
			}
		}
	}))
	files[pdd.IndexFile], files[pdd.SignedFile] = index.Bytes(), w.sign(index.Bytes())
	files[pdd.StampFile] = w.stamp(files[pdd.SignedFile])
	var sums strings.Builder
	for _, name := range []string{pdd.IndexFile, pdd.SignedFile, pdd.StampFile} {
		sum := sha256.Sum256(files[name])
		fmt.Fprintf(&sums, "%s  %s\n", hex.EncodeToString(sum[:]), name)
	}
	files[pdd.SumsFile] = []byte(sums.String())
	return files
}

// TestForgedDistributions: a PdD that a stranger signed, also when a good authority stamped it.
func TestForgedDistributions(t *testing.T) {
	honest := openWorkshop(t, nil)
	stranger := openWorkshop(t, honest)
	book := openLog(t)
	pack := func(w *workshop, book *logged) string {
		files := map[string][]byte{}
		for name, content := range forgedDistribution(t, w, book) {
			files["PdD/"+name] = content
		}
		file := filepath.Join(t.TempDir(), "PdD.zip")
		require.NoError(t, os.WriteFile(file, zipped(t, files), 0o600))
		return file
	}
	good := pack(honest, book)
	for _, at := range []time.Time{day, day.AddDate(9, 0, 0)} {
		got := later(at, "conserve", "verify", good, "--roots", honest.roots)
		require.Equal(t, exitOK, got.code, got.out+got.errOut)
	}
	got := command(t, "", "conserve", "verify", pack(stranger, book), "--roots", honest.roots)
	require.Equal(t, exitRefused, got.code, got.out+got.errOut)
	require.Contains(t, got.out, pdd.SignatureBad)

	got = command(t, "", "conserve", "verify", good, "--roots", honest.roots, "--log-key", book.key)
	require.Equal(t, exitOK, got.code, got.out+got.errOut)
	require.Contains(t, got.out, "the log proves "+pdd.UnitProof)
	got = command(t, "", "conserve", "verify", pack(honest, nil), "--roots", honest.roots, "--log-key", book.key)
	require.Equal(t, exitUsage, got.code, "what the log does not prove is not called good: "+got.out+got.errOut)
	require.Contains(t, got.out, "brings no proof of it")
	book.refusesUnwitnessed(pdd.ProofBad, good, "--roots", honest.roots)
}

// TestForgedReports: a report of what was taken in charge that a stranger signed, one whose stamp is of something else, and one of years ago.
func TestForgedReports(t *testing.T) {
	honest, book := openWorkshop(t, nil), openLog(t)
	stranger := openWorkshop(t, honest)
	const unit = "0199d2f0-0000-7000-8000-00000000beef"
	document := []byte("<x/>")
	sum := sha256.Sum256(document)
	content := fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?>
<RapportoDiVersamento xmlns="https://ceralacca.dev/schemi/rdv/1" versione="1"><Identificativo>tenants/acme/deposits/1</Identificativo>`+
		`<UnitaDocumentaria><Identificativo>tenants/acme/units/%s</Identificativo><File><ImprontaCrittograficaDelDocumento><Impronta>%s</Impronta></ImprontaCrittograficaDelDocumento></File></UnitaDocumentaria>`+
		`<Registro><Prova>%s</Prova></Registro></RapportoDiVersamento>
`, unit, base64.StdEncoding.EncodeToString(sum[:]), book.receipt(unit, document))
	write := func(p7m, stamp []byte) string {
		file := filepath.Join(t.TempDir(), "rdv.xml.p7m")
		require.NoError(t, os.WriteFile(file, p7m, 0o600))
		if stamp != nil {
			require.NoError(t, os.WriteFile(file+".tsr", stamp, 0o600))
		}
		return file
	}
	signed, strange := honest.sign(content), stranger.sign(content)
	good, with := write(signed, honest.stamp(signed)), []string{"--roots", honest.roots, "--log-key", book.key}
	for name, c := range map[string]struct {
		at   time.Time
		file string
		code int
		says string
	}{
		"good":                 {day, good, exitOK, "the time stamp of the report"},
		"years later":          {day.AddDate(9, 0, 0), good, exitOK, "the signature of the report"},
		"by a stranger":        {day, write(strange, honest.stamp(strange)), exitRefused, custody.SubmissionInvalid},
		"another's time stamp": {day, write(signed, honest.stamp(strange)), exitRefused, custody.SubmissionInvalid},
		"without a stamp":      {day, write(signed, nil), exitUsage, "it is not beside the report"},
	} {
		got := later(c.at, append([]string{"conserve", "verify", c.file}, with...)...)
		require.Equal(t, c.code, got.code, name+": "+got.out+got.errOut)
		require.Contains(t, got.out, c.says, name)
	}
	require.Contains(t, command(t, "", "conserve", "verify", good, "--log-key", book.key).out, noRoots)
	book.refusesUnwitnessed(custody.SubmissionInvalid, good, "--roots", honest.roots)
}

// logged is a log with a witness, who cosigned nothing.
type logged struct {
	t      *testing.T
	signer *tlog.Signer
	key    string // file with the keys of both
}

func openLog(t *testing.T) *logged {
	t.Helper()
	signer, err := tlog.NewSigner("log.test", ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	require.NoError(t, err)
	witness, err := tlog.NewCosigner("testimone.test", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize)), func() time.Time { return day })
	require.NoError(t, err)
	l := &logged{t: t, signer: signer, key: filepath.Join(t.TempDir(), "log.key")}
	require.NoError(t, os.WriteFile(l.key, []byte(signer.String()+"\n"+witness.String()+"\n"), 0o600))
	return l
}

// receipt is the proof of a unit of one file, in a log that has nothing else.
func (l *logged) receipt(unit string, document []byte) []byte {
	ctx, store := context.Background(), &tlogtest.Memory{}
	log, err := tlog.Open(ctx, store, tlog.EmptyTree())
	require.NoError(l.t, err)
	objects, note := custody.UnitObjects(unit, [][sha256.Size]byte{sha256.Sum256(document)})
	leaf, err := (&tlog.Tail{Tenant: tlog.TenantTag([]byte("k"), "acme")}).Next(custody.Taken, day, objects, note)
	require.NoError(l.t, err)
	entry, err := leaf.Marshal()
	require.NoError(l.t, err)
	_, err = log.Append(ctx, entry)
	require.NoError(l.t, err)
	tree, err := log.Commit(ctx)
	require.NoError(l.t, err)
	r := tlog.Receipt{Entry: entry}
	r.Checkpoint, err = tlog.Checkpoint{Origin: "log.test", Tree: tree}.Sign(l.signer)
	require.NoError(l.t, err)
	text, err := r.Marshal()
	require.NoError(l.t, err)
	return text
}

// refusesUnwitnessed: who asks for a witness does not get what none of them cosigned, whatever it is that he has.
func (l *logged) refusesUnwitnessed(code, file string, more ...string) {
	args := append([]string{"conserve", "verify", file, "--log-key", l.key}, more...)
	got := command(l.t, "", append(args, "--quorum", "1")...)
	require.Equal(l.t, exitRefused, got.code, got.out+got.errOut)
	require.Contains(l.t, got.out, code)
	require.Equal(l.t, exitUsage, command(l.t, "", append(args, "--quorum", "2")...).code, "there is one witness")
	require.Equal(l.t, exitUsage, command(l.t, "", "conserve", "verify", file, "--quorum", "1").code, "nobody's key was given")
}

// TestForgedExports: a folder that a stranger signed as an export.
func TestForgedExports(t *testing.T) {
	honest := openWorkshop(t, nil)
	stranger := openWorkshop(t, honest)
	write := func(w *workshop) string {
		dir, document := t.TempDir(), []byte("<x/>")
		manifest := fmt.Appendf(nil, "%x  data/x.xml\n", sha256.Sum256(document))
		p7m := w.sign(manifest)
		require.NoError(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))
		for name, content := range map[string][]byte{"data/x.xml": document, exportManifest: manifest, exportManifest + ".p7m": p7m, exportManifest + ".p7m.tsr": w.stamp(p7m)} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
		}
		return dir
	}
	good := write(honest)
	for _, at := range []time.Time{day, day.AddDate(9, 0, 0)} {
		got := later(at, "conserve", "verify", good, "--roots", honest.roots)
		require.Equal(t, exitOK, got.code, got.out+got.errOut)
	}
	require.Contains(t, command(t, "", "conserve", "verify", good).out, noRoots)
	got := command(t, "", "conserve", "verify", write(stranger), "--roots", honest.roots)
	require.Equal(t, exitRefused, got.code, got.out+got.errOut)
	require.Contains(t, got.out, exportUnsigned)
}

// odd is an entry of a ZIP that no honest program writes.
type odd struct {
	name    string
	mode    fs.FileMode
	content string
}

// withOdd is a ZIP with entries more.
func withOdd(t *testing.T, raw []byte, more ...odd) []byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range z.File {
		require.NoError(t, w.Copy(f))
	}
	for _, o := range more {
		h := &zip.FileHeader{Name: o.name}
		h.SetMode(o.mode)
		f, err := w.CreateHeader(h)
		require.NoError(t, err)
		_, err = f.Write([]byte(o.content))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

// TestPackedTwice: a ZIP from which programs unpack something else than what was verified: a second file that takes the place of the
// first by another spelling of its name, or by calling itself a folder, and what lies beside the package.
func TestPackedTwice(t *testing.T) {
	honest := openWorkshop(t, nil)
	raw, err := os.ReadFile("testdata/inspect/package.zip")
	require.NoError(t, err)
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	folder, _, _ := strings.Cut(z.File[0].Name, "/")
	document := ""
	for _, f := range z.File {
		if _, name, _ := strings.Cut(f.Name, "/"); strings.HasPrefix(name, "data/units/u000001/doc") {
			document = name
		}
	}
	require.NotEmpty(t, document)
	// Tag files are in a list that nobody signs, so whoever adds one adds its line.
	tagged := func(name, content string) odd { return odd{folder + "/" + name, 0o644, content} }
	pack := func(more ...odd) []byte {
		listed := rebagged(t, raw, func(files map[string][]byte) {
			for _, m := range more {
				_, name, _ := strings.Cut(m.name, "/")
				files[name] = []byte(m.content)
			}
		})
		return withOdd(t, without(t, listed, more...), more...)
	}
	distribution := map[string][]byte{}
	for name, content := range forgedDistribution(t, honest, nil) {
		distribution["PdD/"+name] = content
	}
	shown := zipped(t, distribution)
	for name, c := range map[string]struct {
		raw  []byte
		good bool
	}{
		"package":                       {pack(), true},
		"package, a folder is named":    {withOdd(t, raw, odd{folder + "/data/", fs.ModeDir | 0o755, ""}), true},
		"package, ./":                   {pack(tagged("./"+document, "<y/>")), false},
		"package, other case":           {pack(tagged("DATA/"+strings.TrimPrefix(document, "data/"), "<y/>")), false},
		"package, backslash":            {pack(tagged(strings.ReplaceAll(document, "/", `\`), "<y/>")), false},
		"package, ..":                   {pack(tagged("x/../"+document, "<y/>")), false},
		"package, a dot at the end":     {pack(tagged("data./x", "<y/>")), false},
		"package, a link":               {pack(odd{folder + "/fatture", fs.ModeSymlink | 0o777, "data/units"}), false},
		"package, a folder with bytes":  {withOdd(t, raw, odd{folder + "/" + document, fs.ModeDir | 0o755, "<y/>"}), false},
		"package, beside it":            {pack(odd{"altro/LEGGIMI.html", 0o644, "<y/>"}), false},
		"PdD":                           {shown, true},
		"PdD, ./":                       {withOdd(t, shown, odd{"PdD/./documenti/x.xml", 0o644, "<y/>"}), false},
		"PdD, a folder with bytes":      {withOdd(t, shown, odd{"PdD/documenti/x.xml", fs.ModeDir | 0o755, "<y/>"}), false},
		"PdD, beside it":                {withOdd(t, shown, odd{"index.html", 0o644, "<y/>"}), false},
		"PdD, another one before it":    {withOdd(t, zipped(t, map[string][]byte{"A/documenti/x.xml": []byte("<y/>")}), entries(t, shown)...), false},
		"PdD, backslash":                {withOdd(t, shown, odd{`PdD\documenti\x.xml`, 0o644, "<y/>"}), false},
		"PdD, the same name once again": {withOdd(t, shown, odd{"PdD/documenti/x.xml", 0o644, "<y/>"}), false},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "given.zip")
			require.NoError(t, os.WriteFile(file, c.raw, 0o600))
			args := []string{"conserve", "verify", file}
			if strings.HasPrefix(name, "PdD") {
				args = append(args, "--roots", honest.roots)
			}
			got := command(t, "", args...)
			require.Equal(t, c.good, got.code == exitOK, got.out+got.errOut)
		})
	}
}

// entries are the files of a ZIP, to be put into another one.
func entries(t *testing.T, raw []byte) (list []odd) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	for _, f := range z.File {
		r, err := f.Open()
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		list = append(list, odd{f.Name, 0o644, string(content)})
	}
	return list
}

// without takes from a ZIP what has the names of others below its folder.
func without(t *testing.T, raw []byte, others ...odd) []byte {
	t.Helper()
	kept := map[string][]byte{}
	for _, e := range entries(t, raw) {
		kept[e.name] = []byte(e.content)
	}
	folder, _, _ := strings.Cut(slices.Sorted(maps.Keys(kept))[0], "/")
	for _, o := range others {
		_, name, _ := strings.Cut(o.name, "/")
		delete(kept, folder+"/"+name)
	}
	return zipped(t, kept)
}

// TestSilentLogIsKept: of a log that cannot be reached for too long the monitor keeps an alarm, as of all that is wrong.
func TestSilentLogIsKept(t *testing.T) {
	dir, book := t.TempDir(), openLog(t)
	surroundings(t, map[string]string{"SERVER": "127.0.0.1:1", "TENANT": "acme", "API_KEY": "nobody's"})
	got := command(t, "", "conserve", "monitor", "--state", dir, "--log-key", book.key, "--silence", "0s")
	require.Equal(t, exitRefused, got.code, got.out+got.errOut)
	require.Contains(t, got.out, logSilent)
	kept, err := filepath.Glob(filepath.Join(dir, alarmsDir, "*.json"))
	require.NoError(t, err)
	require.Len(t, kept, 1)
	raw, err := os.ReadFile(kept[0])
	require.NoError(t, err)
	require.Contains(t, string(raw), logSilent)
}

// TestSilentLogByTimer: a monitor that a timer begins anew for each round says of a log that does not answer what one says that goes on.
func TestSilentLogByTimer(t *testing.T) {
	dir, book := t.TempDir(), openLog(t)
	surroundings(t, map[string]string{"SERVER": "127.0.0.1:1", "TENANT": "acme", "API_KEY": "nobody's"})
	look := func() answer {
		return command(t, "", "conserve", "monitor", "--once", "--state", dir, "--log-key", book.key)
	}
	require.Equal(t, exitUnavailable, look().code)
	since := filepath.Join(dir, unreachedFile)
	require.FileExists(t, since)
	require.Equal(t, exitUnavailable, look().code, "an hour is admitted")
	require.NoError(t, os.WriteFile(since, []byte(day.Add(-2*time.Hour).Format(time.RFC3339Nano)+"\n"), 0o600))
	got := look()
	require.Equal(t, exitRefused, got.code, got.out+got.errOut)
	require.Contains(t, got.out, logSilent)
}
