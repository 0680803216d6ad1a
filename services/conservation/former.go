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
	"ceralacca.dev/services/internal/fault"
)

// storedArchive ends a conflict: a former attempt stored the package, died before its row said so, and the same package has other
// bytes now (another release of the compressor, or a layout that told where files lie). What is stored is the package when it
// holds what the package holds; then every replica gets these bytes. Other content under the key stays, and is for a person.
func (s *Service) storedArchive(ctx context.Context, p db.Package, o *object, file *os.File, conflict error) (*object, error) {
	t, err := decodeTerms(p.Terms)
	if err != nil {
		return nil, err
	}
	ours, err := contentsOf(file, o.Size)
	if err != nil {
		return nil, err
	}
	for _, x := range o.to {
		former, stored, err := s.borrowArchive(ctx, p, o, x)
		if err != nil {
			return nil, err
		}
		if former == nil {
			continue
		}
		err = ours.compare(stored, p.ID.String(), t.Layout)
		if err != nil {
			drop(stored.file)
			return nil, otherArchive(o, x, err)
		}
		s.log.WarnContext(ctx, "a package was stored before with the same content and other bytes: these are taken", "package", p.ID, "replica", x.name)
		former.to = o.to
		for _, y := range o.to {
			_, err = y.Replace(ctx, former.Object, stored.file, former.lock()) // what is there already stays
			y.saw(err, s.now())
			if err != nil {
				break
			}
		}
		drop(stored.file)
		return former, err
	}
	return nil, conflict
}

// borrowArchive reads what a replica holds under the key of an archive; nil when it is nothing, or the same bytes.
func (s *Service) borrowArchive(ctx context.Context, p db.Package, o *object, x *replica) (*object, *contents, error) {
	for e, err := range x.List(ctx, o.Key) {
		if err != nil {
			return nil, nil, err
		}
		if e.Key != o.Key {
			continue
		}
		file, sum, err := s.borrow(ctx, x, e)
		if err != nil {
			return nil, nil, err
		}
		if sum == o.SHA256 {
			drop(file)
			return nil, nil, nil
		}
		stored, err := contentsOf(file, e.Size)
		if err != nil {
			drop(file)
			return nil, nil, otherArchive(o, x, err)
		}
		return packageObject(p, sum, e.Size), stored, nil
	}
	return nil, nil, nil
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
