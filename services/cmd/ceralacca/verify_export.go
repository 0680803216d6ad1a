package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tsp"
)

// Codes of a folder of an export that is wrong in itself.
const (
	exportUnreadable = "EXPORT_UNREADABLE"
	exportMissing    = "EXPORT_FILE_MISSING"
	exportChanged    = "EXPORT_FILE_CHANGED"
	exportInserted   = "EXPORT_FILE_INSERTED"
	exportUnsigned   = "EXPORT_SIGNATURE_INVALID"
	exportUnstamped  = "EXPORT_STAMP_INVALID"
)

// Files of an export.
const (
	exportManifest = "manifest-sha256.txt"
	exportTags     = "tagmanifest-sha256.txt"
	exportPoint    = "data/checkpoint"
	exportKey      = "data/log.key"
	exportLeaves   = "data/log/leaves.jsonl"
	exportLast     = "data/log/last.tlog-proof"
	exportGrowth   = "data/log/growth.jsonl"
	exportUnits    = "data/units.jsonl"
	exportWaiting  = "data/waiting/"
	exportDeeds    = "data/log/disposals/" // proofs of reports of destructions
)

// besideData are the files that an export has beside its payload.
var besideData = []string{exportManifest, exportManifest + ".p7m", exportManifest + ".p7m.tsr", exportTags, "bagit.txt", "bag-info.txt", "LEGGIMI.txt", exportMark}

// exported is the folder of an export under judgement.
type exported struct {
	c      *cli
	dir    string
	i      *inspection
	report *custody.Report
	listed map[string]bool
	ledger *custody.Ledger // nil: no key of the log

	waiting map[string]bool // documents that no package holds
}

func (e *exported) bad(code, what, format string, a ...any) {
	e.report.Problems = append(e.report.Problems, custody.Problem{Code: code, What: what, Message: fmt.Sprintf(format, a...)})
}

// verifyExport judges a folder that conserve export wrote: its manifest with signature and time stamp, every file, each package and report
// by itself, and all that the log proves of them as one whole.
func (c *cli) verifyExport(dir string, in custody.Input, i *inspection, key string, quorum int) error {
	e := &exported{c: c, dir: dir, i: i, report: &custody.Report{}, listed: map[string]bool{}, waiting: map[string]bool{}}
	e.manifest()
	e.tags()
	e.inserted()
	if key == "" && e.listed[exportKey] {
		key = filepath.Join(dir, filepath.FromSlash(exportKey))
		e.report.Holds = append(e.report.Holds, "the log is judged by the key in the export: compare "+exportKey+" with the one that you hold, or give it with --log-key")
	}
	if key != "" {
		policy, err := c.quorumPolicy(key, quorum)
		if err != nil {
			return err
		}
		e.ledger, err = custody.NewLedger(policy, in.Stamps)
		if err != nil {
			return err
		}
	}
	e.waits()
	if e.ledger != nil {
		e.log()
	} else {
		e.unlogged()
	}
	packages := 0
	for _, name := range sortedKeys(e.listed) {
		switch {
		case strings.HasPrefix(name, "data/packages/"):
			packages++
			e.pack(name)
		case strings.HasPrefix(name, "data/rdv/") && strings.HasSuffix(name, ".p7m"):
			e.submission(name)
		case strings.HasPrefix(name, "data/disposals/"):
			e.disposal(name)
		}
	}
	e.indexed()
	if l := e.ledger; l != nil {
		e.growth()
		l.End()
		e.report.Problems, e.report.Unshown = append(e.report.Problems, l.Problems...), append(e.report.Unshown, l.Unshown...)
		e.report.Holds = append(e.report.Holds, l.Holds...)
	}
	if len(e.report.Problems) == 0 {
		by := " and by their receipts"
		if e.ledger == nil {
			by = ""
		}
		e.report.Holds = append(e.report.Holds, fmt.Sprintf("%d files have the digests of the signed manifest; %d packages hold in themselves%s", len(e.listed), packages, by))
	}
	if i.roots == nil {
		e.report.Holds = append(e.report.Holds, noRoots)
	}
	return c.verdict(e.report, filepath.Base(dir))
}

// log reads the last that the log stated, and the list of all leaves, with which everything that is proven is compared.
func (e *exported) log() {
	l := e.ledger
	if e.listed[exportPoint] {
		if note, err := e.read(exportPoint); err == nil {
			l.Checkpoint(exportPoint, note)
		}
	}
	if e.listed[exportLeaves] {
		proof, err := e.read(exportLast)
		if err != nil {
			e.bad(exportMissing, exportLast, "%s", inWords(err))
		} else if list, err := e.open(exportLeaves); err == nil { // said when it is missing
			l.Chain(exportLeaves, list, proof)
			_ = list.Close()
		}
	}
}

// unlogged says what cannot be judged without the log's key.
func (e *exported) unlogged() {
	const what = "no key of the log is in the export, and none was given with --log-key"
	for name := range e.listed {
		if name == exportPoint || strings.HasPrefix(name, "data/receipts/") || strings.HasPrefix(name, "data/log/") {
			e.report.Unshown = append(e.report.Unshown, "what the log proves, and that nothing was left out: "+what)
			return
		}
	}
	e.report.Holds = append(e.report.Holds, "that nothing was left out is not judged: "+what)
}

// growth reads what links the other sizes of the log that were shown with the last.
func (e *exported) growth() {
	if !e.listed[exportGrowth] {
		return
	}
	list, err := e.open(exportGrowth)
	if err != nil {
		return // said
	}
	defer list.Close()
	e.ledger.Growth(exportGrowth, list)
}

func sortedKeys(m map[string]bool) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// file is where a file of the export lies. What is none is refused before it is opened: a link leads to what was not handed over, and a pipe or a device
// has no end.
func (e *exported) file(name string) (string, error) {
	file := filepath.Join(e.dir, filepath.FromSlash(name))
	info, err := os.Lstat(file)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no file, but a folder, a link, a pipe or a device")
	}
	return file, err
}

func (e *exported) open(name string) (*os.File, error) {
	file, err := e.file(name)
	if err != nil {
		return nil, err
	}
	return os.Open(file) //nolint:gosec // the folder is the user's
}

func (e *exported) read(name string) ([]byte, error) {
	file, err := e.file(name)
	if err != nil {
		return nil, err
	}
	return e.c.readUpTo(file, largestPackage)
}

// manifest compares every file that it lists, and judges who signed it and when.
func (e *exported) manifest() {
	raw, err := e.read(exportManifest)
	if err != nil {
		e.bad(exportUnreadable, exportManifest, "%s: is %s the folder that ceralacca conserve export wrote?", inWords(err), e.dir)
		return
	}
	e.compare(exportManifest, raw)
	p7m, err := e.read(exportManifest + ".p7m")
	if err != nil {
		e.bad(exportUnsigned, exportManifest+".p7m", "%v", err)
		return
	}
	at := e.stamped(p7m)
	sd, judged, err := cades.Verify(p7m, cades.VerifyOptions{Roots: e.i.roots, TSARoots: e.i.roots, At: at})
	if err == nil {
		err = judged.Err()
	}
	switch {
	case err != nil:
		e.bad(exportUnsigned, exportManifest+".p7m", "%v", err)
	case sd.Detached || !bytes.Equal(sd.Content(), raw):
		e.bad(exportUnsigned, exportManifest+".p7m", "another manifest is signed than the one in the folder")
	}
}

// compare compares the files of a list with their digests.
func (e *exported) compare(list string, raw []byte) {
	for line := range strings.Lines(string(raw)) {
		sum, name, ok := strings.Cut(strings.TrimRight(line, "\n"), "  ")
		if !ok || !filepath.IsLocal(filepath.FromSlash(name)) {
			e.bad(exportUnreadable, list, "%.200q is no line of a manifest", line)
			continue
		}
		if list == exportManifest {
			e.listed[name] = true
		}
		file, err := e.file(name)
		var got []byte
		if err == nil {
			got, _, err = sumOf(file)
		}
		switch {
		case err != nil:
			e.bad(exportMissing, name, "%v", err)
		case hex.EncodeToString(got) != sum:
			e.bad(exportChanged, name, "its SHA-256 is %x, the manifest has %s", got, sum)
		}
	}
}

// tags compares the files beside the payload with their list, which nobody signs.
func (e *exported) tags() {
	if _, err := os.Lstat(filepath.Join(e.dir, exportTags)); errors.Is(err, fs.ErrNotExist) {
		return
	}
	raw, err := e.read(exportTags)
	if err != nil {
		e.bad(exportUnreadable, exportTags, "%s", inWords(err))
		return
	}
	e.compare(exportTags, raw)
}

// stamped judges the time stamp of the signed manifest, and gives the time to judge its signer at: the stamp's, and now when it does not
// hold.
func (e *exported) stamped(p7m []byte) time.Time {
	tsr, err := e.read(exportManifest + ".p7m.tsr")
	var token *tsp.Token
	if err == nil {
		token, err = tsp.ParseToken(tsr)
	}
	if err == nil {
		digest := sha256.Sum256(p7m)
		err = token.Verify(tsp.VerifyOptions{Digest: digest[:], Roots: e.i.roots})
	}
	if err != nil {
		e.bad(exportUnstamped, exportManifest+".p7m.tsr", "%v", err)
		return e.i.at
	}
	return token.Info.Time
}

// inserted names files that no list has: below data, and beside it, where nothing but what makes it a signed bag belongs.
func (e *exported) inserted() {
	err := filepath.WalkDir(e.dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		local, err := filepath.Rel(e.dir, file)
		if err != nil {
			return err
		}
		switch name := filepath.ToSlash(local); {
		case e.listed[name] || slices.Contains(besideData, name) && d.Type().IsRegular():
		case strings.HasPrefix(name, "data/"):
			e.bad(exportInserted, name, "the manifest does not list it")
		default:
			e.bad(exportInserted, name, "it lies beside the export and is no part of it: nothing vouches for it")
		}
		return nil
	})
	if err != nil {
		e.bad(exportUnreadable, "data", "%s", inWords(err))
	}
}

// pack judges one package by itself and by the receipts beside it.
func (e *exported) pack(name string) {
	raw, err := e.read(name)
	if err != nil {
		return // it is missing, which was said
	}
	var in custody.Input
	e.c.judgePackage(e.report, e.i, name, raw, &in)
	if in.Package == nil || e.ledger == nil {
		return
	}
	e.ledger.Handed(in.Package.ID)
	proofs := "data/receipts/" + strings.TrimPrefix(name, "data/packages/")
	if !e.listed[proofs] {
		e.report.Unshown = append(e.report.Unshown, name+": the export brings no receipts of it")
		return
	}
	receipts, err := e.receipts(proofs)
	if err != nil {
		e.bad(custody.ReceiptInvalid, proofs, "%v", err)
		return
	}
	if len(custody.PackageReceipts(receipts)) == 0 {
		e.report.Unshown = append(e.report.Unshown, name+": the export brings no receipt of the package itself, which fixes its bytes")
	}
	e.ledger.Package(in.Package, receipts)
}

// submission judges a report of what was taken in charge (RdV).
func (e *exported) submission(name string) {
	raw, err := e.read(name)
	if err != nil {
		return // said
	}
	content, p7m := openSubmission(raw)
	if p7m == nil {
		e.bad(custody.SubmissionInvalid, name, "it is no signed report of what was taken in charge")
		return
	}
	if _, err := e.file(name + ".tsr"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return // said
	}
	part := &custody.Report{}
	e.c.judgeSubmission(part, e.i, name, filepath.Join(e.dir, filepath.FromSlash(name+".tsr")), p7m)
	for _, p := range part.Problems {
		e.bad(p.Code, name, "%s", p.Message)
	}
	for _, u := range part.Unshown {
		e.report.Unshown = append(e.report.Unshown, name+": "+u)
	}
	if e.ledger != nil {
		e.ledger.Submission(name, content)
	}
}

// indexed looks for the packages that the index of all documents names.
func (e *exported) indexed() {
	if !e.listed[exportUnits] {
		return
	}
	f, err := e.open(exportUnits)
	if err != nil {
		return // said
	}
	defer f.Close()
	said := map[string]bool{}
	for d := json.NewDecoder(f); ; {
		var line struct {
			Package string `json:"package"`
			Unit    string `json:"unit"`
		}
		err := d.Decode(&line)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			e.bad(exportUnreadable, exportUnits, "%v", err)
			return
		}
		if line.Package == "" && line.Unit != "" && !e.waiting[line.Unit] {
			e.bad(exportMissing, exportWaiting, "the index of all documents names %.200q as one that waits for its package, and it is not there", line.Unit)
		}
		name := "data/packages/" + line.Package + ".zip"
		if line.Package != "" && !e.listed[name] && !said[name] {
			said[name] = true
			e.bad(exportMissing, name, "the index of all documents names this package, and the manifest does not list it")
		}
	}
}

func (e *exported) receipts(name string) ([]custody.Receipt, error) {
	raw, err := e.read(name)
	if err != nil {
		return nil, err
	}
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, err
	}
	var list []custody.Receipt
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(io.LimitReader(r, 1<<20))
		_ = r.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		receipt, err := tlog.ParseReceipt(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		list = append(list, custody.Receipt{Name: name + " " + path.Base(f.Name), Receipt: receipt})
	}
	return list, nil
}
