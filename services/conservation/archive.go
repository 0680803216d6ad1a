package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
)

// The package is a BagIt 1.0 bag in one ZIP. The signed index and its stamp lie beside the index: the
// package is self-contained, so whoever holds the ZIP can verify it. spec: RFC8493
const (
	bagDeclaration = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
	indexFile      = "data/PIndex.xml"
	signedFile     = "data/PIndex.xml.p7m"
	stampFile      = "data/PIndex.xml.p7m.tsr"
	packageFile    = "package.json"
)

// objectSpace makes the id of a package's object from the package's, so that a repeat writes the same.
var objectSpace = uuid.MustParse("f0a2a1b7-6f57-4a52-8f0e-2c6a4b8a3d11")

// writeArchive makes the package and stores it in every replica, from which it is read back. Without
// replicas it goes to the platform's store.
func (s *Service) writeArchive(ctx context.Context, p db.Package) (result, error) {
	tags, err := s.revocationTags(ctx, p)
	if err != nil {
		return result{}, err
	}
	read, write := io.Pipe()
	go func() {
		a := &archive{s: s, p: p, zip: zip.NewWriter(write), files: cabinet{s: s}, revocation: tags}
		write.CloseWithError(a.write(ctx))
	}()
	defer read.Close() // ends the writer when the store gives up first
	if s.replicas == nil {
		return s.writeBlob(ctx, p, read)
	}
	sum := sha256.New()
	file, size, err := spool(io.TeeReader(read, sum))
	if err != nil {
		return result{}, fmt.Errorf("conservation: archive of %s: %w", p.ID, err)
	}
	defer drop(file)
	o := packageObject(p, [32]byte(sum.Sum(nil)), size)
	s.replicas.place(o)
	err = s.replicas.write(ctx, o, file)
	var displaced []spooled
	if vault.Conflicting(err) {
		o, displaced, err = s.storedArchive(ctx, p, o, file, err)
	}
	if err != nil {
		return result{displaced: displaced}, fmt.Errorf("conservation: archive of %s: %w", p.ID, err)
	}
	return result{ref: blob.Ref{Tenant: p.TenantID, SHA256: o.SHA256, Size: o.Size}, object: o, displaced: displaced}, nil
}

// revocationTags are the tag files by which the certificates of a package's signature and stamp are judged later.
func (s *Service) revocationTags(ctx context.Context, p db.Package) (map[string][]byte, error) {
	t, err := decodeTerms(p.Terms)
	if err != nil || t.Layout <= layoutSilent {
		return nil, err
	}
	said, err := s.askRevocation(ctx, p)
	if err != nil {
		return nil, err
	}
	return said.tags()
}

func packageObject(p db.Package, sum [32]byte, size int64) *object {
	return &object{
		id: uuid.NewSHA1(objectSpace, p.ID[:]), kind: kindPackage, retain: retainedUntil(p),
		Object: vault.Object{Key: "tenants/" + p.TenantID + "/packages/" + p.ID.String() + ".zip", Size: size, SHA256: sum},
	}
}

// retainedUntil is the end of a package's term, as it was fixed at closing.
func retainedUntil(p db.Package) time.Time {
	if p.RetainUntil != nil {
		return p.RetainUntil.UTC()
	}
	return retainUntil(p.FiscalYear, retentionYears)
}

func (s *Service) writeBlob(ctx context.Context, p db.Package, from io.Reader) (result, error) {
	ref, err := s.blobs.PutReader(ctx, p.TenantID, from)
	if err != nil {
		return result{}, fmt.Errorf("conservation: archive of %s: %w", p.ID, err)
	}
	err = s.check(ctx, ref)
	if err != nil {
		return result{}, fmt.Errorf("conservation: archive of %s, read back: %w", p.ID, err)
	}
	return result{ref: ref}, nil
}

// check reads a blob to its end; the store compares the hash.
func (s *Service) check(ctx context.Context, ref blob.Ref) error {
	r, err := s.blobs.Open(ctx, ref)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	return err
}

// archive writes one package. Names are in order, times are that of closing, and nothing else goes
// in: the same package gives the same bytes.
type archive struct {
	s        *Service
	p        db.Package
	zip      *zip.Writer
	manifest bytes.Buffer
	tags     bytes.Buffer
	bytes    int64 // of the payload
	count    int
	files    cabinet
	layout   int
	list     *bytes.Buffer // gathers units.jsonl; nil: not, or not any more

	revocation map[string][]byte // tag files, by their names
}

func (a *archive) write(ctx context.Context) error {
	t, err := decodeTerms(a.p.Terms)
	if err != nil {
		return err
	}
	var list bytes.Buffer
	a.layout = t.Layout
	if t.Layout > layoutBare {
		a.list = &list
	}
	err = a.payloadList(ctx)
	if err != nil {
		return err
	}
	a.list = nil
	info := fmt.Sprintf("Bagging-Date: %s\nExternal-Identifier: urn:uuid:%s\nPayload-Oxum: %d.%d\n",
		a.p.ClosedAt.UTC().Format(time.DateOnly), a.p.ID, a.bytes, a.count)
	err = a.tag("bag-info.txt", []byte(info))
	if err != nil {
		return err
	}
	err = a.tag("bagit.txt", []byte(bagDeclaration))
	if err != nil {
		return err
	}
	err = a.payload(ctx)
	if err != nil {
		return err
	}
	err = a.tag("manifest-sha256.txt", a.manifest.Bytes())
	if err != nil {
		return err
	}
	if t.Layout > layoutBare {
		err = a.packageRecord()
		for _, name := range slices.Sorted(maps.Keys(a.revocation)) {
			if err == nil {
				err = a.tag(name, a.revocation[name])
			}
		}
		if err != nil {
			return err
		}
		a.tagLine(intakeList, list.Bytes()) // its name sorts behind the list of tag files
	}
	err = a.add("tagmanifest-sha256.txt", bytes.NewReader(a.tags.Bytes()), int64(a.tags.Len()))
	if err == nil && t.Layout > layoutBare {
		err = a.add(intakeList, bytes.NewReader(list.Bytes()), int64(list.Len()))
	}
	if err != nil {
		return err
	}
	err = a.zip.Close()
	if err != nil {
		return fmt.Errorf("conservation: zip: %w", err)
	}
	return nil
}

// entry is one payload file.
type entry struct {
	name string
	ref  blob.Ref
	file *db.UnitFile // nil: an output of the sealing, which the platform's store has
}

// entries gives the payload in the order of names: the index first (capitals sort so), then units.
func (a *archive) entries(ctx context.Context, yield func(entry) error) error {
	p := a.p
	for _, e := range []entry{
		{indexFile, refOf(p.TenantID, p.IndexSha256, p.IndexSize), nil},
		{signedFile, refOf(p.TenantID, p.SignedSha256, p.SignedSize), nil},
		{stampFile, refOf(p.TenantID, p.StampSha256, p.StampSize), nil},
	} {
		err := yield(e)
		if err != nil {
			return err
		}
	}
	for m, err := range a.s.members(ctx, p) {
		if err != nil {
			return err
		}
		err = a.listUnit(m)
		if err != nil {
			return err
		}
		list := make([]entry, len(m.files))
		for i, f := range m.files {
			list[i] = entry{"data/" + m.path(f), fileRef(f), &f}
		}
		slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.name, b.name) })
		for _, e := range list {
			err = yield(e)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// payloadList makes the manifest from what the rows say; payload checks it against the bytes.
func (a *archive) payloadList(ctx context.Context) error {
	return a.entries(ctx, func(e entry) error {
		a.bytes += e.ref.Size
		a.count++
		fmt.Fprintf(&a.manifest, "%s  %s\n", e.ref.Hex(), e.name)
		return nil
	})
}

func (a *archive) payload(ctx context.Context) error {
	return a.entries(ctx, func(e entry) error {
		if e.file != nil {
			raw, err := a.files.file(ctx, *e.file)
			if err != nil {
				return fmt.Errorf("conservation: %s: %w", e.name, err)
			}
			return a.add(e.name, bytes.NewReader(raw), e.ref.Size)
		}
		r, err := a.s.blobs.Open(ctx, e.ref)
		if err != nil {
			return fmt.Errorf("conservation: %s: %w", e.name, err)
		}
		err = a.add(e.name, r, e.ref.Size)
		if closeErr := r.Close(); err == nil {
			err = closeErr
		}
		return err
	})
}

// tag adds a tag file and its line in the tag manifest.
func (a *archive) tag(name string, content []byte) error {
	a.tagLine(name, content)
	return a.add(name, bytes.NewReader(content), int64(len(content)))
}

func (a *archive) tagLine(name string, content []byte) {
	sum := sha256.Sum256(content)
	fmt.Fprintf(&a.tags, "%s  %s\n", hex.EncodeToString(sum[:]), name)
}

// packageRecord writes the package's own row, and listUnit those of its units, so that they can be made again
// from the package alone.
func (a *archive) packageRecord() error {
	record := map[string]any{
		"package": a.p.ID, "tenant": a.p.TenantID, "fiscal_year": a.p.FiscalYear, "class": a.p.Class, "number": a.p.Number,
		"closed": a.p.ClosedAt.UTC(), "units": a.p.UnitCount, "terms": json.RawMessage(a.p.Terms),
	}
	if a.layout > layoutPlaces {
		record["retain_until"] = retainedUntil(a.p)
	}
	raw, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("conservation: %s: %w", packageFile, err)
	}
	return a.tag(packageFile, append(raw, '\n'))
}

func (a *archive) listUnit(m member) error {
	if a.list == nil {
		return nil
	}
	var f facts
	err := json.Unmarshal(m.unit.Facts, &f)
	if err != nil {
		return fmt.Errorf("conservation: facts of unit %s: %w", m.unit.ID, err)
	}
	r := recordOf(m.unit, f, m.files)
	if a.layout > layoutPlaces { // files may be moved before the package is stored, and its bytes must not follow
		r = r.unplaced()
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("conservation: %s: %w", intakeList, err)
	}
	a.list.Write(raw)
	a.list.WriteByte('\n')
	return nil
}

func (a *archive) add(name string, r io.Reader, size int64) error {
	h := &zip.FileHeader{Name: a.p.ID.String() + "/" + name, Method: zip.Store, Modified: a.p.ClosedAt.UTC().Truncate(time.Second)}
	switch path.Ext(name) {
	case ".xml", ".eml", ".txt":
		h.Method = zip.Deflate
	}
	h.SetMode(0o444)
	w, err := a.zip.CreateHeader(h)
	if err != nil {
		return fmt.Errorf("conservation: zip %s: %w", name, err)
	}
	n, err := io.Copy(w, r)
	if err != nil {
		return fmt.Errorf("conservation: zip %s: %w", name, err)
	}
	if n != size {
		return fault.Internal("FILE_SIZE", "%s has %d bytes, %d were taken in", name, n, size)
	}
	return nil
}
