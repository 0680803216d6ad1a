package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

// markOf is the mark of a file: its time, to the nanosecond.
func markOf(info fs.FileInfo) string { return strconv.FormatInt(info.ModTime().UnixNano(), 10) }

// MarkOfFile is the mark that a store in a folder gives to a file of it: for the one program that removes blobs.
func MarkOfFile(info fs.FileInfo) string { return markOf(info) }

// Mark implements Store.
func (s *FS) Mark(_ context.Context, ref Ref) (Mark, error) {
	if err := checkTenant(ref.Tenant); err != nil {
		return Mark{}, err
	}
	info, err := os.Stat(s.path(ref))
	if errors.Is(err, fs.ErrNotExist) {
		return Mark{}, notFound(ref)
	}
	if err != nil {
		return Mark{}, unavailable(err, "be read")
	}
	now, err := s.clock()
	if err != nil {
		return Mark{}, unavailable(err, "be written")
	}
	return Mark{Text: markOf(info), Age: max(0, now.ModTime().Sub(info.ModTime())), Size: info.Size()}, nil
}

// again reports whether the blob is there, and if so changes its mark: whoever would remove it because nobody needed it sees that
// somebody does. Only the owner of a file may set its time, so processes that share a folder run as one user; another's file keeps
// its time, and is safe for as long as a disposal waits after the last Put.
func (s *FS) again(ref Ref) (bool, error) {
	found, err := s.holds(ref)
	if err != nil || !found {
		return found, err
	}
	now := time.Now()
	err = os.Chtimes(s.path(ref), now, now)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil // removed meanwhile
	case err != nil && !errors.Is(err, fs.ErrPermission):
		return false, unavailable(err, "be written")
	}
	return true, nil
}

// Fresh is for how long a Put of what a store holds already may leave its mark as it is: whoever goes by marks must not ask for bytes
// that were stored more recently, since nothing would show that somebody stored them again.
func Fresh(s Store) time.Duration {
	if _, ok := s.(*S3); ok {
		return fresh
	}
	return 0
}

// Mark implements Store.
func (s *S3) Mark(ctx context.Context, ref Ref) (Mark, error) {
	if err := checkTenant(ref.Tenant); err != nil {
		return Mark{}, err
	}
	info, err := s.client.StatObject(ctx, s.cfg.Bucket, s.key(ref), minio.StatObjectOptions{})
	if minio.ToErrorResponse(err).StatusCode == http.StatusNotFound {
		return Mark{}, notFound(ref)
	}
	if err != nil {
		return Mark{}, s.fault(ctx, err, "be read")
	}
	return Mark{Text: MarkOfObject(info), Age: max(0, time.Since(info.LastModified)), Size: info.Size}, nil
}

// MarkOfObject is the mark that a store in a bucket gives to an object of it: its time, which some answers give in seconds only, and
// its version, which lists call null in a bucket without versions.
func MarkOfObject(info minio.ObjectInfo) string {
	return fmt.Sprintf("%d %s", info.LastModified.Unix(), strings.TrimPrefix(info.VersionID, "null"))
}
