package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/minio/minio-go/v7"

	"ceralacca.dev/services/internal/fault"
)

// promised copies r to w and refuses other bytes than those of the reference.
func promised(ctx context.Context, ref Ref, w io.Writer, r io.Reader) error {
	sum, src := sha256.New(), &source{ctx: ctx, r: r}
	size, err := io.Copy(io.MultiWriter(w, sum), src)
	switch {
	case src.err != nil:
		return src.err // the caller's reader failed, not the store
	case err != nil:
		return unavailable(err, "be written")
	case size != ref.Size || !bytes.Equal(sum.Sum(nil), ref.SHA256[:]):
		return fault.Invalid("BLOB_DIFFERS", "these are other bytes than those of %s", ref.URI())
	}
	return nil
}

// Mend implements Store: the new file takes the place of the damaged one in one step.
func (s *FS) Mend(ctx context.Context, ref Ref, r io.Reader) error {
	if err := checkTenant(ref.Tenant); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(s.incoming(), "mend-*")
	if err != nil {
		return unavailable(err, "be written")
	}
	defer os.Remove(tmp.Name()) // unless it has its final name by then
	defer tmp.Close()
	if err := promised(ctx, ref, tmp, r); err != nil {
		return err
	}
	path := s.path(ref)
	err = errors.Join(tmp.Chmod(0o440), tmp.Sync())
	if err == nil {
		err = s.makeLeaf(ref)
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return unavailable(err, "be written")
	}
	return nil
}

// Mend implements Store. A bucket that keeps versions keeps the damaged one too.
func (s *S3) Mend(ctx context.Context, ref Ref, r io.Reader) error {
	if err := checkTenant(ref.Tenant); err != nil {
		return err
	}
	spool, err := os.CreateTemp("", "ceralacca-blob-*")
	if err != nil {
		return unavailable(err, "spool a blob")
	}
	defer os.Remove(spool.Name())
	defer spool.Close()
	if err := promised(ctx, ref, spool, r); err != nil {
		return err
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return unavailable(err, "spool a blob")
	}
	_, err = s.client.PutObject(ctx, s.cfg.Bucket, s.key(ref), spool, ref.Size, minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true})
	if err != nil {
		return s.fault(ctx, err, "be written")
	}
	return nil
}
