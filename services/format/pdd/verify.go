package pdd

import (
	"archive/zip"
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/ers"
	"ceralacca.dev/services/format/revocation"
	"ceralacca.dev/services/format/sincro"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tsp"
)

// What can be wrong, permanent: scripts switch on it.
const (
	Unreadable   = "PDD_UNREADABLE"
	SignatureBad = "PDD_SIGNATURE"
	StampBad     = "PDD_TIME_STAMP"
	FileChanged  = "PDD_FILE_CHANGED"
	FileMissing  = "PDD_FILE_MISSING"
	FileExtra    = "PDD_FILE_EXTRA"
	OriginBad    = "PDD_ORIGIN"
	ProofBad     = "PDD_LOG_PROOF"
)

// Options say whom to trust.
type Options struct {
	Roots *x509.CertPool // nil: the identity of signers and authorities is not judged
	// Policy is the log's key; nil: proofs of the log are not read.
	Policy *tlog.Policy
}

// largestFile is what is read of one file at most.
const largestFile = 1 << 30

// Open gives the content of a package's ZIP, below the one folder that it has. ok is false when it is no package; a package with an error
// unpacks to something else than what would be verified.
func Open(raw []byte) (content fs.FS, ok bool, err error) {
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, false, fmt.Errorf("pdd: no readable ZIP: %w", err)
	}
	if !slices.ContainsFunc(z.File, func(f *zip.File) bool {
		dir, name := path.Split(f.Name)
		return (name == SignedFile || name == IndexFile) && strings.Count(dir, "/") <= 1
	}) {
		return nil, false, nil
	}
	folder, members, err := custody.Members(raw)
	if err != nil {
		return nil, true, fmt.Errorf("pdd: %w", err)
	}
	if members[SignedFile] == nil && members[IndexFile] == nil {
		return nil, true, errors.New("pdd: something lies beside the folder that the package is in")
	}
	content, err = fs.Sub(z, path.Clean("./"+folder))
	return content, true, err
}

// check is one verification.
type check struct {
	custody.Report

	fs    fs.FS
	o     Options
	sums  map[string][sha256.Size]byte
	units map[string][][sha256.Size]byte // files of each unit as the index orders them
	named map[string]bool
	held  []string // units with a document, receipt or metadata of theirs, as the index orders them
}

func (c *check) bad(code, what, format string, a ...any) {
	c.Problems = append(c.Problems, custody.Problem{Code: code, What: what, Message: fmt.Sprintf(format, a...)})
}

// Verify judges a package by its bytes: its index with signature and time stamp (of the signer's certificate what holds at the time of the stamp), every file against the index both ways, the
// signed indexes of the packages of origin and that the documents stand in them, and the proofs of the log when its key is
// given. The verdict without the log is that of verifica.sh.
func Verify(content fs.FS, o Options) *custody.Report {
	c := &check{fs: content, o: o, sums: map[string][sha256.Size]byte{}, units: map[string][][sha256.Size]byte{}, named: map[string]bool{}}
	err := c.read()
	if err != nil {
		c.bad(Unreadable, "PdD", "%v", err)
		return &c.Report
	}
	index := c.signed(SignatureBad, IndexFile, SignedFile, StampFile)
	raw, err := c.file(IndexFile)
	switch {
	case err != nil:
		c.bad(FileMissing, IndexFile, "%v", err)
	case !bytes.Equal(raw, index):
		c.bad(SignatureBad, IndexFile, "another index is signed than the one in the package")
	}
	c.control()
	c.compare(raw)
	origins, _ := fs.Glob(content, Proofs+"/*/"+OriginSigned) // the pattern is good
	for _, p := range origins {
		c.origin(path.Dir(p))
	}
	c.proofs(origins)
	if len(c.Problems) == 0 {
		c.Holds = append([]string{fmt.Sprintf("the index with its signature and time stamp, and %d files by their SHA-256", len(c.named))}, c.Holds...)
	}
	if o.Roots == nil {
		c.Holds = append(c.Holds, "no roots were given: who signed and stamped is not judged")
	}
	return &c.Report
}

// read takes the digest of every file.
func (c *check) read() error {
	return fs.WalkDir(c.fs, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is no file", name)
		}
		f, err := c.fs.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		n, err := io.Copy(h, io.LimitReader(f, largestFile+1))
		if err == nil && n > largestFile {
			err = errors.New("larger than 1 GiB")
		}
		if err != nil {
			c.bad(FileChanged, name, "cannot be read: %v", err)
			return nil //nolint:nilerr // it is told
		}
		c.sums[name] = [sha256.Size]byte(h.Sum(nil))
		return nil
	})
}

// file gives what is in a file whose digest was taken: of one that is too large nothing comes into memory.
func (c *check) file(name string) ([]byte, error) {
	if _, taken := c.sums[name]; !taken {
		_, err := fs.Stat(c.fs, name)
		if err == nil {
			err = fmt.Errorf("%s was not read to its end", name)
		}
		return nil, err
	}
	return fs.ReadFile(c.fs, name)
}

// signed judges an index with signature and time stamp, and gives what was signed.
func (c *check) signed(code, what, signed, stamp string) []byte {
	p7m, err := c.file(signed)
	if err != nil {
		c.bad(FileMissing, signed, "%v", err)
		return nil
	}
	at := c.stamped(code, stamp, p7m)
	sd, report, err := cades.Verify(p7m, cades.VerifyOptions{Roots: c.o.Roots, TSARoots: c.o.Roots, At: at})
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		c.bad(code, signed, "the signature does not hold: %v", err)
	}
	if sd == nil || sd.Detached {
		c.bad(code, what, "there is nothing in the signature")
		return nil
	}
	return sd.Content()
}

// stamped judges a time stamp and gives its time, at which the signer's certificate is judged: it ends long before packages do. Zero: the
// stamp does not hold, which is said.
func (c *check) stamped(code, stamp string, p7m []byte) time.Time {
	if code == SignatureBad {
		code = StampBad
	}
	raw, err := c.file(stamp)
	if err != nil {
		c.bad(FileMissing, stamp, "%v", err)
		return time.Time{}
	}
	token, err := tsp.ParseToken(raw)
	if err == nil {
		sum := sha256.Sum256(p7m)
		err = token.Verify(tsp.VerifyOptions{Digest: sum[:], Roots: c.o.Roots})
	}
	if err != nil {
		c.bad(code, stamp, "the time stamp does not hold: %v", err)
		return time.Time{}
	}
	return token.Info.Time
}

// control compares the file against accidents, which covers what no signature does.
func (c *check) control() {
	var want bytes.Buffer
	for _, name := range []string{IndexFile, SignedFile, StampFile} {
		sum := c.sums[name]
		fmt.Fprintf(&want, "%s  %s\n", hex.EncodeToString(sum[:]), name)
	}
	got, err := c.file(SumsFile)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		c.bad(FileChanged, SumsFile, "it does not fit %s, its signature or its time stamp", IndexFile)
	}
}

// compare holds every file against the index, and the index against the files.
func (c *check) compare(index []byte) {
	look := func(name string, h sincro.Hash) [sha256.Size]byte {
		sum, ok := c.sums[name]
		c.named[name] = true
		switch {
		case !ok:
			c.bad(FileMissing, name, "the index names it and the package does not hold it")
		case h.Function != sincro.SHA256 || h.Value != base64.StdEncoding.EncodeToString(sum[:]):
			c.bad(FileChanged, name, "it is not the file that the index names")
		}
		return sum
	}
	_, err := sincro.Read(bytes.NewReader(index), func(g sincro.FileGroup) error {
		for _, f := range g.Files {
			c.units[g.ID.Value] = append(c.units[g.ID.Value], look(f.Path, f.Hash))
		}
		if g.Metadata != nil {
			c.units[g.ID.Value] = append(c.units[g.ID.Value], look(g.Metadata.Path, g.Metadata.Hash))
		}
		if g.Metadata != nil || slices.ContainsFunc(g.Files, func(f sincro.File) bool { return !besideDocuments(f.Path) }) {
			c.held = append(c.held, g.ID.Value)
		}
		return nil
	})
	if err != nil {
		c.bad(Unreadable, IndexFile, "%v", err)
	}
	for _, own := range []string{IndexFile, SignedFile, StampFile, SumsFile} {
		if c.named[own] {
			c.bad(Unreadable, own, "the index names itself")
		}
		c.named[own] = true
	}
	for name := range c.sums {
		if !c.named[name] {
			c.bad(FileExtra, name, "the index does not name it")
		}
	}
	slices.SortStableFunc(c.Problems, func(a, b custody.Problem) int { return strings.Compare(a.What, b.What) })
}

// besideDocuments says that a file is no document of anybody, but what shows or proves them.
func besideDocuments(name string) bool {
	_, fixed := Fixed()[name]
	return fixed || name == DataFile || path.Dir(name) == Views || strings.HasPrefix(name, Proofs+"/")
}

// origin judges the signed index of a package of origin, and wants every document that is said to come from it there.
func (c *check) origin(dir string) {
	raw := c.signed(OriginBad, dir, dir+"/"+OriginSigned, dir+"/"+OriginStamp)
	c.revocation(dir)
	kept := map[string]bool{}
	_, err := sincro.Read(bytes.NewReader(raw), func(g sincro.FileGroup) error {
		for _, f := range g.Files {
			kept[f.Hash.Value] = true
		}
		if g.Metadata != nil {
			kept[g.Metadata.Hash.Value] = true
		}
		return nil
	})
	if err != nil {
		c.bad(OriginBad, dir, "its index cannot be read: %v", err)
		return
	}
	list, err := c.file(dir + "/" + OriginList)
	if err != nil || len(list) == 0 {
		c.bad(OriginBad, dir, "it does not say which documents come from it")
		return
	}
	for line := range strings.Lines(string(list)) {
		hash, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		sum, ok := c.sums[name]
		if !ok || base64.StdEncoding.EncodeToString(sum[:]) != hash || !kept[hash] {
			c.bad(OriginBad, name, "the package of origin %s does not hold it", path.Base(dir))
		}
	}
	c.Holds = append(c.Holds, fmt.Sprintf("the signed index of package %s names the documents that come from it", path.Base(dir)))
}

// revocation judges the certificates of a package of origin by what their issuers said when it was sealed.
func (c *check) revocation(dir string) {
	p7m, err := c.file(dir + "/" + OriginSigned)
	if err != nil {
		return // said already, as all that cannot be read here
	}
	stamp, err := c.file(dir + "/" + OriginStamp)
	if err != nil {
		return
	}
	token, err := tsp.ParseToken(stamp)
	if err != nil {
		return
	}
	sd, err := cms.Parse(p7m)
	if err != nil {
		return
	}
	at := token.Info.Time
	for _, of := range []struct {
		name string
		sd   *cms.SignedData
	}{{OriginSigned, sd}, {OriginStamp, token.Signed}} {
		name, sd := dir+"/"+of.name, of.sd
		report := cades.Judge(sd, cades.VerifyOptions{})
		if len(report.Signers) == 0 || report.Signers[0].Certificate == nil {
			continue
		}
		lists, _ := c.file(name + revocation.Lists) // most have one of the two
		answers, _ := c.file(name + revocation.Answers)
		holds, problem := revocation.Beside(lists, answers, revocation.Chain(report.Signers[0].Certificate, sd.Certificates, c.o.Roots, at), at)
		if problem != "" {
			c.bad(OriginBad, name, "%s", problem)
		}
		if holds != "" {
			c.Holds = append(c.Holds, name+": "+holds)
		}
	}
}

// proofs reads the receipts of the log.
func (c *check) proofs(origins []string) {
	units, _ := fs.Glob(c.fs, UnitProof+"/*"+ProofSuffix) // the pattern is good
	if c.o.Policy == nil {
		if len(units) > 0 {
			c.Holds = append(c.Holds, fmt.Sprintf("%d proofs of the log are there and were not read: its key was not given", len(units)))
		}
		return
	}
	for _, id := range c.held {
		if name := UnitProof + "/" + id + ProofSuffix; !slices.Contains(units, name) {
			c.Unshown = append(c.Unshown, fmt.Sprintf("that the log states document %s: the package brings no proof of it", id))
		}
	}
	for _, name := range units {
		id := strings.TrimSuffix(path.Base(name), ProofSuffix)
		c.proof(name, func(l *tlog.Leaf) bool {
			objects, note := custody.UnitObjects(id, c.units[id])
			return slices.Equal(objects, l.Objects) && note == l.Note
		})
	}
	for _, p := range origins {
		dir := path.Dir(p)
		var archive []byte
		c.proof(dir+"/"+OriginProof, func(l *tlog.Leaf) bool {
			fits := len(l.Objects) == 4 && slices.Equal(l.Objects, custody.PackageObjects(path.Base(dir), l.Objects[1], c.sums[dir+"/"+OriginSigned], c.sums[dir+"/"+OriginStamp]))
			if fits {
				archive = l.Objects[1][:]
			}
			return fits
		})
		c.evidence(dir+"/"+OriginEvidence, archive)
	}
}

// errWhole: a hash tree that was renewed is over other digests than the one that the log states.
var errWhole = errors.New("a renewed hash tree is verified with the package of origin as a whole")

// evidence verifies the evidence record of a package of origin, which is not here, by the digest that the log states of it.
func (c *check) evidence(name string, archive []byte) {
	raw, err := c.file(name)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && archive == nil) {
		return // its stamp needed no renewal yet; or the log, without whose word there is nothing to compare with, was found wrong above
	}
	var record *ers.Record
	if err == nil {
		record, err = ers.Parse(raw)
	}
	var said *ers.Report
	if err == nil {
		said, err = record.Verify([]ers.Object{func(h crypto.Hash) ([]byte, error) {
			if h != crypto.SHA256 {
				return nil, errWhole
			}
			return archive, nil
		}}, ers.VerifyOptions{Roots: c.o.Roots})
	}
	if err == nil || errors.Is(err, errWhole) {
		if late := c.late(path.Dir(name), record); late != nil {
			err = late
		}
	}
	switch {
	case errors.Is(err, errWhole):
		c.Unshown = append(c.Unshown, name+": "+errWhole.Error())
	case err != nil:
		c.bad(ProofBad, name, "%v", err)
	default:
		c.Holds = append(c.Holds, fmt.Sprintf("the time stamp of package %s was renewed: %d stamps", path.Base(path.Dir(name)), len(said.Stamps)))
	}
}

// late says why an evidence record does not carry on the time stamp of a package of origin: it has to begin before that one ends.
func (c *check) late(dir string, record *ers.Record) error {
	raw, err := c.file(dir + "/" + OriginStamp)
	if err != nil {
		return err
	}
	token, err := tsp.ParseToken(raw)
	if err != nil {
		return err
	}
	cert := token.Certificate()
	if cert == nil {
		return errors.New("the time stamp that it renews does not carry its authority's certificate: when it ended cannot be said")
	}
	if since := record.Chains[0].Stamps[0].Token.Info.Time; since.After(cert.NotAfter) {
		return fmt.Errorf("the time stamp that it renews ended on %s, and this record begins on %s", cert.NotAfter.UTC().Format(time.DateOnly), since.UTC().Format(time.DateOnly))
	}
	return nil
}

func (c *check) proof(name string, fits func(*tlog.Leaf) bool) {
	raw, err := c.file(name)
	if errors.Is(err, fs.ErrNotExist) {
		return // none was kept when the package was made
	}
	var r *tlog.Receipt
	if err == nil {
		r, err = tlog.ParseReceipt(raw)
	}
	if err == nil {
		_, err = r.Verify(nil, *c.o.Policy, tlog.StampPolicy{Roots: c.o.Roots})
	}
	var leaf *tlog.Leaf
	if err == nil {
		leaf, err = tlog.ParseLeaf(r.Entry)
	}
	switch {
	case err != nil:
		c.bad(ProofBad, name, "%v", err)
	case !fits(leaf):
		c.bad(ProofBad, name, "the log states other files than those of the package")
	default:
		c.Holds = append(c.Holds, "the log proves "+name)
	}
}
