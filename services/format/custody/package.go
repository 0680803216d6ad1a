package custody

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"

	"ceralacca.dev/services/format/sincro"
)

// Package is what the bytes of a preservation package say of its units.
type Package struct {
	ID    string
	Sum   [sha256.Size]byte // of the ZIP
	Units []Unit            // in the order of the index
	// Missing are files that the index names and the package does not hold.
	Missing []string
}

// Unit is a document with its receipts and its metadata file.
type Unit struct {
	ID string
	// Files are the SHA-256 of the bytes in the package, as they are and not as the index says: the document,
	// the receipts, the metadata file.
	Files [][sha256.Size]byte
}

const (
	indexName = "data/PIndex.xml"
	maxIndex  = 256 << 20
	maxFile   = 1 << 30 // of one file, unpacked
)

// ReadPackage reads the ZIP of a package. Errors: what makes it unreadable; that it was tampered with is
// no error here, nor that its ZIP is another one for who reads it as a stream (Members): its receipt says that its bytes are others.
func ReadPackage(raw []byte) (*Package, error) {
	folder, members, _, err := open(raw)
	if err != nil {
		return nil, err
	}
	sums, index := map[string][sha256.Size]byte{}, []byte(nil)
	h := sha256.New()
	for name, f := range members {
		content, err := sum(f, h, name == indexName)
		if err != nil {
			return nil, fmt.Errorf("custody: %.200q: %w", name, err)
		}
		sums[name] = [sha256.Size]byte(h.Sum(nil))
		if name == indexName {
			index = content
		}
	}
	if index == nil && folder == "" {
		return nil, errors.New("custody: there is no " + indexName + ": it is no preservation package, or something lies beside the folder that a package is in")
	}
	if index == nil {
		return nil, errors.New("custody: there is no " + indexName + ": it is no preservation package")
	}
	p := &Package{Sum: sha256.Sum256(raw)}
	head, err := sincro.Read(bytes.NewReader(index), func(g sincro.FileGroup) error {
		p.Units = append(p.Units, p.unit(g, sums))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("custody: index: %w", err)
	}
	p.ID = head.Volume.ID.Value
	return p, nil
}

// sum leaves the digest of an entry in h and gives its content when it is wanted.
func sum(f *zip.File, h hash.Hash, keep bool) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	h.Reset()
	var content bytes.Buffer
	into, limit := io.Writer(h), int64(maxFile)
	if keep {
		into, limit = io.MultiWriter(h, &content), maxIndex
	}
	n, err := io.Copy(into, io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fmt.Errorf("it is larger than %d MiB", limit>>20)
	}
	return content.Bytes(), nil
}

func (p *Package) unit(g sincro.FileGroup, sums map[string][sha256.Size]byte) Unit {
	u := Unit{ID: g.ID.Value}
	add := func(file string) {
		name := path.Join("data", file)
		digest, ok := sums[name]
		if !ok {
			p.Missing = append(p.Missing, name)
		}
		u.Files = append(u.Files, digest)
	}
	for _, f := range g.Files {
		add(f.Path)
	}
	if g.Metadata != nil {
		add(g.Metadata.Path)
	}
	return u
}
