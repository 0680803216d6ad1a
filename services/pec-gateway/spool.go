package pecgateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"

	"ceralacca.dev/services/internal/blob"
)

// inMemory is how much of a message is kept in memory; more goes into a temporary file.
const inMemory = 1 << 20

// spool holds the bytes of one message while they are archived and read.
type spool struct {
	mem  []byte
	file *os.File
	size int64
}

// roomError: there is no room for a large message here. Its source is not to blame.
type roomError struct{ cause error }

func (e *roomError) Error() string {
	return "pec-gateway: room for a large message: " + e.cause.Error()
}
func (e *roomError) Unwrap() error { return e.cause }

// roomy tells errors of the file from those of the source.
type roomy struct{ *os.File }

func (r roomy) Write(p []byte) (int, error) {
	n, err := r.File.Write(p)
	if err != nil {
		err = &roomError{err}
	}
	return n, err
}

// newSpool takes everything that r gives, which says how many bytes that may be.
func newSpool(r io.Reader, says int64) (*spool, error) {
	var b bytes.Buffer
	b.Grow(int(min(max(says, 0), inMemory)) + bytes.MinRead)
	n, err := io.CopyN(&b, r, inMemory+1)
	sp := &spool{mem: b.Bytes(), size: n}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if n <= inMemory {
		return sp, nil
	}
	sp.file, err = os.CreateTemp("", "ceralacca-pec-*")
	if err != nil {
		return nil, &roomError{err}
	}
	_ = os.Remove(sp.file.Name()) // it is gone with its last descriptor, also after a crash
	n, err = io.Copy(struct{ io.Writer }{roomy{sp.file}}, io.MultiReader(bytes.NewReader(sp.mem), r))
	sp.mem, sp.size = nil, n
	if err != nil {
		sp.close()
		return nil, err
	}
	return sp, nil
}

// ReadAt implements io.ReaderAt.
func (sp *spool) ReadAt(p []byte, off int64) (int, error) {
	if sp.file != nil {
		return sp.file.ReadAt(p, off)
	}
	return bytes.NewReader(sp.mem).ReadAt(p, off)
}

func (sp *spool) close() {
	if sp != nil && sp.file != nil {
		_ = sp.file.Close()
	}
}

// keep archives messages as they came. What a disk does once for all of them is done once.
func (v *visit) keep(ctx context.Context, items []*found) error {
	release, err := v.s.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	var small [][]byte
	var whose []*found
	for _, f := range items {
		if f.sp.file == nil {
			small, whose = append(small, f.sp.mem), append(whose, f)
			continue
		}
		f.ref, err = v.s.blobs.PutReader(ctx, v.box.TenantID, io.NewSectionReader(f.sp, 0, f.sp.size))
		if err != nil {
			return err
		}
	}
	refs, err := blob.PutAll(ctx, v.s.blobs, v.box.TenantID, small)
	for i := range refs {
		whose[i].ref = refs[i]
	}
	return err
}

// fromArchive brings kept bytes back.
func (s *Service) fromArchive(ctx context.Context, uri string) (*spool, error) {
	ref, err := blob.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	r, err := s.blobs.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return newSpool(r, ref.Size)
}

// sum is the SHA-256 of the bytes.
func (sp *spool) sum() ([]byte, error) {
	h := sha256.New()
	_, err := io.Copy(h, io.NewSectionReader(sp, 0, sp.size))
	return h.Sum(nil), err
}
