package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/fault"
)

// storedArchive ends a conflict: a former attempt stored the package, died before its row said so, and the same package has other
// bytes now (another release of the compressor, or a layout that told where files lie). What is stored is the package when it
// holds what the package holds; then every replica gets these bytes. Other content under the key stays, and is for a person.
func (s *Service) storedArchive(ctx context.Context, p db.Package, o *object, file *os.File, conflict error) (former *object, displaced []spooled, err error) {
	t, err := decodeTerms(p.Terms)
	if err != nil {
		return nil, nil, err
	}
	ours, err := contentsOf(file, o.Size)
	if err != nil {
		return nil, nil, err
	}
	for _, x := range o.to {
		former, stored, err := s.borrowArchive(ctx, p, o, x)
		if err != nil {
			return nil, nil, err
		}
		if former == nil {
			continue
		}
		err = ours.compare(stored, p.ID.String(), t.Layout)
		if err != nil {
			drop(stored.file)
			return nil, nil, otherArchive(o, x, err)
		}
		sealed, err := s.sealedAs(ctx, p)
		if err == nil && sealed != nil {
			err = fault.Aborted("SEALED_MEANWHILE", "package %s was sealed by another process: what it stored stays", p.ID)
		}
		if err == nil {
			s.log.WarnContext(ctx, "a package was stored before with the same content and other bytes: these are taken", "package", p.ID, "replica", x.name)
			former.to = o.to
			displaced, err = s.takeFormer(ctx, p, former, stored)
		}
		drop(stored.file)
		return former, displaced, err
	}
	return nil, nil, conflict
}

// spooled is an object whose bytes are at hand.
type spooled struct {
	o    *object
	file *os.File
}

// takeFormer makes what a former attempt stored what every replica holds, and gives what it took the place of.
func (s *Service) takeFormer(ctx context.Context, p db.Package, former *object, stored *contents) (displaced []spooled, err error) {
	for _, x := range former.to {
		was, err := s.archiveIn(ctx, p, former.Key, x)
		switch {
		case err != nil && !vault.Damaged(err):
			return displaced, err
		case err == nil && was.file != nil && was.o.SHA256 == former.SHA256:
			drop(was.file)
		case err == nil && was.file != nil:
			displaced = append(displaced, was)
		}
		err = s.putInPlace(ctx, former, stored.file, x)
		if err != nil {
			return displaced, err
		}
	}
	return displaced, nil
}

// putBack puts what was displaced in its place again when it is what the package was sealed with: by a process that holds no lock, since it is
// of a release before it, or has lost it.
func (s *Service) putBack(ctx context.Context, p db.Package, displaced []spooled) error {
	sealed, err := s.sealedAs(ctx, p)
	if err != nil || sealed == nil {
		return err
	}
	for _, d := range displaced {
		if bytes.Equal(sealed, d.o.SHA256[:]) {
			s.log.WarnContext(ctx, "a package was sealed by another process with bytes that were replaced: they are put back", "package", p.ID)
			s.replicas.place(d.o) // one that is out owes it
			return s.putInPlace(ctx, d.o, d.file, d.o.to...)
		}
	}
	return nil
}

// putInPlace makes an object what replicas hold under its key; where it is that already nothing is done.
func (s *Service) putInPlace(ctx context.Context, o *object, file *os.File, replicas ...*replica) error {
	for _, x := range replicas {
		_, err := x.Replace(ctx, o.Object, file, o.lock())
		x.saw(err, s.now())
		if err != nil {
			return err
		}
	}
	return nil
}

// sealedAs is the digest that the row of a package has once it is sealed; nil before.
func (s *Service) sealedAs(ctx context.Context, p db.Package) ([]byte, error) {
	row, err := s.pack(ctx, p.TenantID, SealArgs{Tenant: p.TenantID, Package: p.ID})
	return row.ArchiveSha256, err
}

// archiveIn reads what a replica holds under the key of an archive; no file when it is nothing.
func (s *Service) archiveIn(ctx context.Context, p db.Package, key string, x *replica) (spooled, error) {
	for e, err := range x.List(ctx, key) {
		if err != nil {
			return spooled{}, err
		}
		if e.Key != key {
			continue
		}
		file, sum, err := s.borrow(ctx, x, e)
		if err != nil {
			return spooled{}, err
		}
		return spooled{packageObject(p, sum, e.Size), file}, nil
	}
	return spooled{}, nil
}

// borrowArchive is archiveIn of what may be the package; nil when it is nothing, or the same bytes.
func (s *Service) borrowArchive(ctx context.Context, p db.Package, o *object, x *replica) (*object, *contents, error) {
	held, err := s.archiveIn(ctx, p, o.Key, x)
	if err != nil || held.file == nil {
		return nil, nil, err
	}
	if held.o.SHA256 == o.SHA256 {
		drop(held.file)
		return nil, nil, nil
	}
	stored, err := contentsOf(held.file, held.o.Size)
	if err != nil {
		drop(held.file)
		return nil, nil, otherArchive(o, x, err)
	}
	return held.o, stored, nil
}

func otherArchive(o *object, x *replica, err error) error {
	return fault.Conflict("OBJECT_CONFLICT", "what the %s replica holds under %s is not this package: %v; nothing was replaced", x.name, o.Key, err)
}

// contents is what a package holds, whatever its bytes.
type contents struct {
	file *os.File
	sums map[string][sha256.Size]byte
	list []byte // units.jsonl
	tags []byte // tagmanifest-sha256.txt
}

const tagManifest = "tagmanifest-sha256.txt"

func contentsOf(file *os.File, size int64) (*contents, error) {
	z, err := zip.NewReader(file, size)
	if err != nil {
		return nil, fmt.Errorf("no readable ZIP: %w", err)
	}
	c := &contents{file: file, sums: map[string][sha256.Size]byte{}}
	for _, e := range z.File {
		err = c.read(e)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	if len(c.sums) != len(z.File) {
		return nil, fmt.Errorf("%d entries have %d names", len(z.File), len(c.sums))
	}
	return c, nil
}

func (c *contents) read(e *zip.File) error {
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	var kept bytes.Buffer
	to := io.Writer(h)
	_, name, _ := strings.Cut(e.Name, "/")
	if name == intakeList || name == tagManifest {
		to = io.MultiWriter(h, &kept)
	}
	_, err = io.Copy(to, io.LimitReader(r, 1<<32))
	switch name {
	case intakeList:
		c.list = kept.Bytes()
	case tagManifest:
		c.tags = kept.Bytes()
	}
	c.sums[e.Name] = [sha256.Size]byte(h.Sum(nil))
	return err
}

// compare wants the same names with the same bytes. Of layout 2 the list of units may name other places, and the list of tag
// files its digest.
func (c *contents) compare(stored *contents, folder string, layout int) error {
	free := func(name string) bool {
		return layout == layoutPlaces && (name == folder+"/"+intakeList || name == folder+"/"+tagManifest)
	}
	for name, sum := range stored.sums {
		if got, ok := c.sums[name]; !ok || (got != sum && !free(name)) {
			return fmt.Errorf("its %s is another", name)
		}
	}
	if len(c.sums) != len(stored.sums) {
		return fmt.Errorf("it holds %d files, the package %d", len(stored.sums), len(c.sums))
	}
	if layout != layoutPlaces {
		return nil
	}
	listed := stored.sums[folder+"/"+intakeList]
	if want := bytes.Replace(c.tags, fmt.Appendf(nil, "%x  %s\n", c.sums[folder+"/"+intakeList], intakeList), fmt.Appendf(nil, "%x  %s\n", listed, intakeList), 1); !bytes.Equal(want, stored.tags) {
		return fmt.Errorf("its %s is another", tagManifest)
	}
	mine, err := unplacedUnits(c.list)
	if err != nil {
		return err
	}
	theirs, err := unplacedUnits(stored.list)
	if err == nil && !reflect.DeepEqual(mine, theirs) {
		err = fmt.Errorf("its %s names other units", intakeList)
	}
	return err
}

func unplacedUnits(list []byte) ([]record, error) {
	var all []record
	lines := json.NewDecoder(bytes.NewReader(list))
	for lines.More() {
		var r record
		err := lines.Decode(&r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", intakeList, err)
		}
		all = append(all, r.unplaced())
	}
	return all, nil
}
