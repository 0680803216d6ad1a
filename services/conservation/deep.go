package conservation

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/sincro"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// deep judges packages from their bytes, those first that have waited longest, from each replica in turn.
func (s *Service) deep(ctx context.Context, f *findings) error {
	f.What = "packages: manifests, index against files both ways, signature, time stamp, leaf of the log, readability"
	if s.credentialRoots == nil {
		f.note(unjudgedSigner)
	}
	var due []db.DuePackagesRow
	before := pg.Time(s.now().Add(-s.cfg.Checks.DeepEvery))
	if f.AskedBy != byTimer {
		before = pg.Time(s.now()) // who asks gets them checked now
	}
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		due, err = db.New(tx).DuePackages(ctx, db.DuePackagesParams{Before: &before, Tenant: f.Tenant, Page: int32(s.cfg.Checks.DeepPackages)}) //nolint:gosec // a setting
		return err
	})
	if err != nil {
		return err
	}
	end := s.now().Add(roundTime)
	for i, row := range due {
		if s.now().After(end) {
			f.note("the time of a round was over with %d packages left: the next one goes on with them", len(due)-i)
			break
		}
		err = s.deepOne(ctx, f, row)
		switch {
		case err != nil && ctx.Err() == nil && errors.Is(err, fault.Unavailable("VAULT_UNAVAILABLE", "")): // the others are in the other replica
			f.note("packages wait for the next round: %s", fault.Of(err).Error())
		case err != nil:
			return err
		}
	}
	return nil
}

func (s *Service) deepOne(ctx context.Context, f *findings, row db.DuePackagesRow) error {
	p, err := s.pack(ctx, row.TenantID, SealArgs{Tenant: row.TenantID, Package: row.ID})
	if err != nil {
		return err
	}
	o, err := s.object(ctx, p.TenantID, *p.ObjectID)
	if err != nil {
		return err
	}
	name := packageName(p.TenantID, p.ID)
	x := s.replicas.all[int(p.ID[15])%len(s.replicas.all)] // half of the packages from each
	file, err := s.replicas.fetch(ctx, o, x)
	switch {
	case vault.Damaged(err):
		f.Checked++
		f.bad(name, "%s replica: %s", x.name, fault.Of(err).Message)
		return s.replicas.damaged(ctx, o, x.name, fault.Of(err).Message)
	case err != nil:
		return err
	}
	defer drop(file)
	j := &judge{s: s, p: p, o: o, sums: map[string]string{}, kept: map[string][]byte{}, bad: func(format string, a ...any) { f.bad(name, format, a...) }}
	err = j.judge(ctx, file)
	if err != nil {
		return err
	}
	f.Checked++
	f.Bytes += o.Size
	at := pg.Time(s.now())
	return s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).SetDeepChecked(ctx, db.SetDeepCheckedParams{ID: p.ID, At: &at})
	})
}

// judge is the judgement of one package. What is wrong is told to bad; an error means that it could not be judged.
type judge struct {
	s    *Service
	p    db.Package
	o    db.ArchiveObject
	sums map[string]string // file of the bag -> SHA-256, hex
	kept map[string][]byte
	bad  func(format string, a ...any)
}

func (j *judge) judge(ctx context.Context, file *os.File) error {
	if !bytes.Equal(j.o.Sha256, j.p.ArchiveSha256) {
		j.bad("the row of the package has another SHA-256 than its object")
	}
	z, err := zip.NewReader(file, j.o.Size)
	if err != nil {
		j.bad("no readable ZIP: %v", err)
		return nil
	}
	j.itself(z)
	err = j.evidence(ctx, file)
	if err != nil {
		return err
	}
	return j.leaf(ctx)
}

// itself judges what a package shows to whoever has nothing else: its bag, its index, the signature and the time stamp.
func (j *judge) itself(z *zip.Reader) {
	for _, e := range z.File {
		err := j.entry(e)
		if err != nil {
			j.bad("%s: %v", e.Name, err)
		}
	}
	j.manifest("manifest-sha256.txt", func(name string) bool { return strings.HasPrefix(name, "data/") })
	j.manifest("tagmanifest-sha256.txt", func(name string) bool {
		return !strings.HasPrefix(name, "data/") && name != "tagmanifest-sha256.txt"
	})
	j.row()
	j.index()
	j.signature()
	j.stamp()
}

// entry takes the digest of a file, keeps what says how the package belongs together, and tries whether
// documents can be read at all.
func (j *judge) entry(e *zip.File) error {
	const largest = 1 << 30
	name, ok := strings.CutPrefix(e.Name, j.p.ID.String()+"/")
	if !ok {
		return errors.New("it is outside the folder of the bag")
	}
	if _, twice := j.sums[name]; twice {
		return errors.New("the package holds it twice")
	}
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, largest+1))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	j.sums[name] = hex.EncodeToString(sum[:])
	if !strings.HasPrefix(name, "data/units/") {
		j.kept[name] = raw
		return nil
	}
	return readable(name, raw)
}

// readable tells a document that no program could open. It does not judge what is in it: that was SdI's part.
func readable(name string, raw []byte) error {
	switch {
	case strings.HasSuffix(name, ".p7m"):
		_, _, err := cms.Open(raw)
		if err != nil {
			return fmt.Errorf("cannot be unwrapped: %w", err)
		}
	case strings.HasSuffix(name, ".xml"):
		d := xmlTokens(raw)
		for {
			_, err := d.RawToken()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("is no XML any more: %w", err)
			}
		}
	case strings.HasSuffix(name, ".zip"):
		_, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
		return err
	}
	return nil
}

// xmlTokens reads the form of an XML, whatever its encoding.
func xmlTokens(raw []byte) *xml.Decoder {
	d := xml.NewDecoder(bytes.NewReader(raw))
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return &singleBytes{in: bufio.NewReader(in)}, nil }
	return d
}

// singleBytes reads any encoding of one byte to a character as if it were Latin 1: the form of the XML is the
// same in all of them, and the form alone is looked at.
type singleBytes struct {
	in   *bufio.Reader
	rest []byte
}

func (s *singleBytes) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		c, err := s.in.ReadByte()
		if err != nil {
			return 0, err
		}
		s.rest = utf8.AppendRune(s.rest, rune(c))
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (j *judge) manifest(name string, lists func(string) bool) {
	raw, ok := j.kept[name]
	if !ok {
		j.bad("there is no %s", name)
		return
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(raw)) {
		want, file, _ := strings.Cut(strings.TrimRight(line, "\n"), "  ")
		listed[file] = true
		if j.sums[file] != want {
			j.bad("%s does not have the SHA-256 that %s gives it", file, name)
		}
	}
	for file := range j.sums {
		if lists(file) && !listed[file] {
			j.bad("%s is not in %s", file, name)
		}
	}
}

// row compares what package.json says with the row: the term above all, which decides when the package may be destroyed.
func (j *judge) row() {
	raw, ok := j.kept[packageFile]
	if !ok {
		return // layout 1
	}
	var n packageNote
	err := json.Unmarshal(raw, &n)
	switch {
	case err != nil:
		j.bad("%s cannot be read: %v", packageFile, err)
	case n.Package != j.p.ID || n.Tenant != j.p.TenantID || n.Year != j.p.FiscalYear || n.Class != j.p.Class || n.Number != j.p.Number || n.Units != j.p.UnitCount:
		j.bad("its row says something else than %s", packageFile)
	case n.Until != nil && !n.Until.Equal(retainedUntil(j.p)):
		j.bad("its row says that it is kept until %s, %s until %s", retainedUntil(j.p).Format(time.DateOnly), packageFile, n.Until.Format(time.DateOnly))
	}
}

// index compares the index with the files, both ways.
func (j *judge) index() {
	named := map[string]bool{indexFile: true, signedFile: true, stampFile: true}
	look := func(path string, h sincro.Hash) {
		raw, err := base64.StdEncoding.DecodeString(h.Value)
		named["data/"+path] = true
		if err != nil || hex.EncodeToString(raw) != j.sums["data/"+path] {
			j.bad("data/%s is not the file that the index names", path)
		}
	}
	units := 0
	ix, err := sincro.Read(bytes.NewReader(j.kept[indexFile]), func(g sincro.FileGroup) error {
		units++
		for _, f := range g.Files {
			look(f.Path, f.Hash)
		}
		if g.Metadata != nil {
			look(g.Metadata.Path, g.Metadata.Hash)
		}
		return nil
	})
	if err != nil {
		j.bad("no readable index: %v", err)
		return
	}
	if ix.Volume.ID.Value != j.p.ID.String() || units != int(j.p.UnitCount) {
		j.bad("the index is of package %s with %d units", ix.Volume.ID.Value, units)
	}
	for file := range j.sums {
		if strings.HasPrefix(file, "data/") && !named[file] {
			j.bad("%s is not in the index", file)
		}
	}
}

// unjudgedSigner is said where no roots are configured: the signature holds by the key that comes with it.
const unjudgedSigner = "whose signature the index bears was not judged: conservation.credential_roots_file is not set"

// signature wants a signature that holds, of a credential that led to the configured roots when the package was stamped, and was not
// revoked then by what the package brings.
func (j *judge) signature() {
	opts := cades.VerifyOptions{}
	token, err := tsp.ParseToken(j.kept[stampFile])
	if err == nil { // without a stamp nothing is sealed: stamp says so
		j.revocation("signature", revocationOfSignature, token.Info.Time, func() ([]*x509.Certificate, error) { return j.s.signerChain(j.kept[signedFile], token.Info.Time) })
	}
	if err == nil && j.s.credentialRoots != nil {
		opts.Roots, opts.At = j.s.credentialRoots, token.Info.Time
	}
	sd, report, err := cades.Verify(j.kept[signedFile], opts)
	if err == nil {
		err = report.Err()
	}
	switch {
	case err != nil:
		j.bad("the signature of the index does not hold: %v", err)
	case !bytes.Equal(sd.Content(), j.kept[indexFile]):
		j.bad("another index is signed than the one in the package")
	}
}

// stamp wants a time stamp of an authority that is trusted now, or was when the package was sealed.
func (j *judge) stamp() {
	token, err := tsp.ParseToken(j.kept[stampFile])
	if err != nil {
		j.bad("no readable time stamp: %v", err)
		return
	}
	digest := sha256.Sum256(j.kept[signedFile])
	err = token.Verify(tsp.VerifyOptions{Digest: digest[:]})
	if err != nil {
		j.bad("the time stamp does not hold: %v", err)
		return
	}
	j.revocation("time stamp", revocationOfStamp, token.Info.Time, func() ([]*x509.Certificate, error) { return j.s.stampChain(token) })
	trusted := slices.ContainsFunc(j.s.stamps, func(a *authority) bool {
		return token.Verify(tsp.VerifyOptions{Digest: digest[:], Roots: a.client.Roots}) == nil
	})
	if !trusted {
		j.bad("the time stamp is of no authority in conservation.tsa: name the former one again, or its root")
	}
	if j.p.StampTime == nil || !j.p.StampTime.Equal(pg.Time(token.Info.Time)) {
		j.bad("the row of the package has another time than its stamp")
	}
}

// leaf wants the package in the log, proven against its last checkpoint.
func (j *judge) leaf(ctx context.Context) error {
	if j.s.book == nil {
		return nil
	}
	id := j.p.ID
	_, err := evidence{s: j.s}.receipt(ctx, j.p.TenantID, packageName(j.p.TenantID, id), id, 0, true, func(context.Context, *db.Queries) error { return nil })
	switch {
	case err != nil && fault.Of(err).Code == "RECEIPT_NOT_READY":
		return err // it was sealed this second, or nobody appends
	case err != nil && fault.Of(err).Kind == fault.KindUnavailable:
		return err
	case err != nil:
		j.bad("the log does not prove it: %s", fault.Of(err).Message)
		return nil
	}
	var row db.LogLeaf
	err = j.s.db.Tx(ctx, j.p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		row, err = db.New(tx).LeafOf(ctx, db.LeafOfParams{Subject: id})
		return err
	})
	if err != nil {
		return err
	}
	leaf, err := tlog.ParseLeaf(row.Entry)
	if err != nil {
		return err
	}
	sum := func(name string) [32]byte { return sha256.Sum256(j.kept[name]) }
	if !slices.Equal(leaf.Objects, custody.PackageObjects(id.String(), [32]byte(j.o.Sha256), sum(signedFile), sum(stampFile))) {
		j.bad("the log states other bytes than those of the package")
	}
	return nil
}
