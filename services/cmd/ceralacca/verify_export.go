package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
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

const exportManifest = "manifest-sha256.txt"

// exported is the folder of an export under judgement.
type exported struct {
	c      *cli
	dir    string
	i      *inspection
	report *custody.Report
	listed map[string]bool
}

func (e *exported) bad(code, what, format string, a ...any) {
	e.report.Problems = append(e.report.Problems, custody.Problem{Code: code, What: what, Message: fmt.Sprintf(format, a...)})
}

// verifyExport judges a folder that conserve export wrote: its manifest with signature and time stamp, every file, and each package
// by itself and by the receipts beside it.
func (c *cli) verifyExport(dir string, in custody.Input, i *inspection, key string, quorum int) error {
	e := &exported{c: c, dir: dir, i: i, report: &custody.Report{}, listed: map[string]bool{}}
	e.manifest()
	e.inserted()
	if key == "" {
		if _, err := os.Stat(filepath.Join(dir, "data", "log.key")); err == nil {
			key = filepath.Join(dir, "data", "log.key")
			e.report.Holds = append(e.report.Holds, "the log is judged by the key in the export: compare data/log.key with the one that you hold, or give it with --log-key")
		}
	}
	if key != "" {
		policy, err := c.quorumPolicy(key, quorum)
		if err != nil {
			return err
		}
		in.Policy = policy
	}
	packages := 0
	for name := range e.listed {
		if strings.HasPrefix(name, "data/packages/") {
			packages++
		}
	}
	for _, name := range sortedKeys(e.listed) {
		if !strings.HasPrefix(name, "data/packages/") {
			continue
		}
		err := e.pack(name, in, key != "")
		if err != nil {
			return err
		}
	}
	if len(e.report.Problems) == 0 {
		e.report.Holds = append(e.report.Holds, fmt.Sprintf("%d files have the digests of the signed manifest; %d packages hold in themselves and by their receipts", len(e.listed), packages))
	}
	if i.roots == nil {
		e.report.Holds = append(e.report.Holds, noRoots)
	}
	return c.verdict(e.report, filepath.Base(dir))
}

func sortedKeys(m map[string]bool) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (e *exported) read(name string) ([]byte, error) {
	return e.c.readUpTo(filepath.Join(e.dir, filepath.FromSlash(name)), largestPackage)
}

// manifest compares every file that it lists, and judges who signed it and when.
func (e *exported) manifest() {
	raw, err := e.read(exportManifest)
	if err != nil {
		e.bad(exportUnreadable, exportManifest, "%s: is %s the folder that ceralacca conserve export wrote?", inWords(err), e.dir)
		return
	}
	for line := range strings.Lines(string(raw)) {
		sum, name, ok := strings.Cut(strings.TrimRight(line, "\n"), "  ")
		if !ok || !filepath.IsLocal(filepath.FromSlash(name)) {
			e.bad(exportUnreadable, exportManifest, "%.200q is no line of a manifest", line)
			continue
		}
		e.listed[name] = true
		got, _, err := sumOf(filepath.Join(e.dir, filepath.FromSlash(name)))
		switch {
		case err != nil:
			e.bad(exportMissing, name, "%v", err)
		case hex.EncodeToString(got) != sum:
			e.bad(exportChanged, name, "its SHA-256 is %x, the manifest has %s", got, sum)
		}
	}
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

// inserted names files below data that no manifest lists.
func (e *exported) inserted() {
	root := filepath.Join(e.dir, "data")
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		local, err := filepath.Rel(e.dir, file)
		if name := filepath.ToSlash(local); err == nil && !e.listed[name] {
			e.bad(exportInserted, name, "the manifest does not list it")
		}
		return err
	})
	if err != nil {
		e.bad(exportUnreadable, "data", "%s", inWords(err))
	}
}

// pack judges one package by itself and by the receipts beside it.
func (e *exported) pack(name string, in custody.Input, logged bool) error {
	raw, err := e.read(name)
	if err != nil {
		return nil //nolint:nilerr // it is missing, which was said
	}
	in.Package, in.Receipts, in.Complete = nil, nil, false
	e.c.judgePackage(e.report, e.i, name, raw, &in)
	if in.Package == nil || !logged {
		return nil
	}
	proofs := "data/receipts/" + strings.TrimPrefix(name, "data/packages/")
	if !e.listed[proofs] {
		e.report.Unshown = append(e.report.Unshown, name+": the export brings no receipts of it")
		return nil
	}
	in.Receipts, err = e.receipts(proofs)
	if err != nil {
		e.bad(custody.ReceiptInvalid, proofs, "%v", err)
		return nil
	}
	if len(custody.PackageReceipts(in.Receipts)) == 0 {
		e.report.Unshown = append(e.report.Unshown, name+": the export brings no receipt of the package itself, which fixes its bytes")
	}
	in.Complete = true
	judged, err := custody.Verify(in)
	if err != nil {
		return err
	}
	e.report.Problems, e.report.Unshown = append(e.report.Problems, judged.Problems...), append(e.report.Unshown, judged.Unshown...)
	return nil
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
		list = append(list, custody.Receipt{Name: path.Base(f.Name), Receipt: receipt})
	}
	return list, nil
}
