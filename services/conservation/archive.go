package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"ceralacca.dev/services/conservation/internal/db"
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
)

// writeArchive streams the package into the store and reads it back from there.
func (s *Service) writeArchive(ctx context.Context, p db.Package) (result, error) {
	read, write := io.Pipe()
	go func() {
		a := &archive{s: s, p: p, zip: zip.NewWriter(write)}
		write.CloseWithError(a.write(ctx))
	}()
	ref, err := s.blobs.PutReader(ctx, p.TenantID, read)
	_ = read.Close() // ends the writer when the store gave up first
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
}

func (a *archive) write(ctx context.Context) error {
	err := a.payloadList(ctx)
	if err != nil {
		return err
	}
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
	err = a.add("tagmanifest-sha256.txt", bytes.NewReader(a.tags.Bytes()), int64(a.tags.Len()))
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
	name   string
	ref    blob.Ref
	inline []byte // instead of the store
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
		list := make([]entry, len(m.files))
		for i, f := range m.files {
			list[i] = entry{"data/" + m.path(f), fileRef(f), f.Content}
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
		if e.inline != nil {
			if sha256.Sum256(e.inline) != e.ref.SHA256 {
				return fault.Internal("METADATA_CORRUPT", "%s is not what was taken in", e.name)
			}
			return a.add(e.name, bytes.NewReader(e.inline), e.ref.Size)
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
	sum := sha256.Sum256(content)
	fmt.Fprintf(&a.tags, "%s  %s\n", hex.EncodeToString(sum[:]), name)
	return a.add(name, bytes.NewReader(content), int64(len(content)))
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
