package eraser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
)

// Folder is a replica on a file system, as the vault lays it out: objects, and quarantine for damaged copies that were set apart.
type Folder struct{ Dir string }

// String is the folder.
func (f Folder) String() string { return "folder " + f.Dir }

func (f Folder) dir() string { return filepath.Join(f.Dir, "objects") }

// there says whether the folder can be seen: a disk that is not mounted holds what nobody sees.
func (f Folder) there() error {
	_, err := os.Stat(f.dir())
	if err != nil {
		return fault.Unavailable("VAULT_UNAVAILABLE", "%s cannot be read", f).With(err)
	}
	return nil
}

// copies are the names of everything that is left of an object.
func (f Folder) copies(key string) ([]string, error) {
	clean := filepath.FromSlash(key)
	if !filepath.IsLocal(clean) {
		return nil, fault.Invalid("KEY_INVALID", "object key %q leads out of the folder", key)
	}
	err := f.there()
	if err != nil {
		return nil, err
	}
	var found []string
	path := filepath.Join(f.dir(), clean)
	switch _, err := os.Lstat(path); {
	case err == nil:
		found = append(found, path)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fault.Unavailable("VAULT_UNAVAILABLE", "%s cannot be read", f).With(err)
	}
	apart := filepath.Join(f.Dir, "quarantine", clean)
	entries, err := os.ReadDir(filepath.Dir(apart))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Unavailable("VAULT_UNAVAILABLE", "%s cannot be read", f).With(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(apart)+".") {
			found = append(found, filepath.Join(filepath.Dir(apart), e.Name()))
		}
	}
	return found, nil
}

// Destroy implements Store. The bytes are overwritten before the name goes; on a disk that writes elsewhere than where it is told
// that is no promise, and encrypting the disk is.
func (f Folder) Destroy(ctx context.Context, key string) error {
	paths, err := f.copies(key)
	for i := 0; err == nil && i < len(paths); i++ {
		err = errors.Join(ctx.Err(), shred(paths[i]))
	}
	if err != nil && fault.Of(err).Kind == fault.KindInternal {
		err = fault.Unavailable("VAULT_UNAVAILABLE", "%s: %s cannot be removed: the eraser's user needs the right to write to its folders", f, key).With(err)
	}
	return err
}

func shred(path string) error {
	err := os.Chmod(path, 0o600)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	zeros := make([]byte, 1<<20)
	for at := int64(0); err == nil && at < info.Size(); at += int64(len(zeros)) {
		_, err = file.WriteAt(zeros[:min(int64(len(zeros)), info.Size()-at)], at)
	}
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Holds implements Store.
func (f Folder) Holds(_ context.Context, key string) (bool, error) {
	paths, err := f.copies(key)
	return len(paths) > 0, err
}

// List implements Replica.
func (f Folder) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		root := filepath.Join(f.dir(), filepath.FromSlash(prefix))
		err := f.there()
		if err == nil {
			err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) && path == root {
					return fs.SkipAll
				}
				if err = errors.Join(err, ctx.Err()); err != nil || d.IsDir() {
					return err
				}
				key, err := filepath.Rel(f.dir(), path)
				if err == nil && !yield(filepath.ToSlash(key), nil) {
					err = fs.SkipAll
				}
				return err
			})
			if err != nil && ctx.Err() == nil {
				err = fault.Unavailable("VAULT_UNAVAILABLE", "%s cannot be listed", f).With(err)
			}
		}
		if err != nil {
			yield("", err)
		}
	}
}

// Read implements Replica.
func (f Folder) Read(_ context.Context, key string) ([]byte, error) {
	clean := filepath.FromSlash(key)
	if !filepath.IsLocal(clean) {
		return nil, fault.Invalid("KEY_INVALID", "object key %q leads out of the folder", key)
	}
	raw, err := os.ReadFile(filepath.Join(f.dir(), clean))
	if err != nil {
		return nil, fault.Unavailable("VAULT_UNAVAILABLE", "%s: %s cannot be read", f, key).With(err)
	}
	return raw, nil
}

// BlobFolder is the platform's store on a file system; keys are tenant/SHA-256.
type BlobFolder struct{ Dir string }

// String is the folder.
func (b BlobFolder) String() string { return "blobs in " + b.Dir }

func (b BlobFolder) path(key string) (string, error) {
	tenant, sum, ok := strings.Cut(key, "/")
	if !ok || len(sum) != 64 || !filepath.IsLocal(tenant) || strings.ContainsAny(key[len(tenant)+1:], `/\.`) {
		return "", fault.Invalid("KEY_INVALID", "blob key %q is not tenant/SHA-256", key)
	}
	return filepath.Join(b.Dir, "tenants", tenant, sum[:2], sum), nil
}

// Destroy implements Store.
func (b BlobFolder) Destroy(_ context.Context, key string) error {
	path, err := b.path(key)
	if err != nil {
		return err
	}
	err = shred(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fault.Unavailable("BLOB_UNAVAILABLE", "%s: %s cannot be removed", b, key).With(err)
}

// going is what follows the name of a file that is being removed: from then on whoever stores the same bytes makes a file anew.
const going = ".going"

// Erase implements Blobs. The file is moved aside and looked at there: one that was stored anew a moment before goes back, unless
// there is another already.
func (b BlobFolder) Erase(_ context.Context, key, mark string) (changed bool, err error) {
	path, err := b.path(key)
	if err != nil {
		return false, err
	}
	changed, err = erase(path, mark)
	if err != nil {
		return false, fault.Unavailable("BLOB_UNAVAILABLE", "%s: %s cannot be removed", b, key).With(err)
	}
	return changed, nil
}

func erase(path, mark string) (changed bool, err error) {
	if info, err := os.Lstat(path + going); err == nil { // of a run that was ended here
		if _, err = settle(path, mark, info); err != nil {
			return false, err
		}
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case blob.MarkOfFile(info) != mark:
		return true, nil
	}
	err = os.Rename(path, path+going)
	if err == nil {
		info, err = os.Lstat(path + going)
	}
	if err != nil {
		return false, err
	}
	return settle(path, mark, info)
}

// settle removes what was moved aside, or puts it back.
func settle(path, mark string, aside fs.FileInfo) (changed bool, err error) {
	if blob.MarkOfFile(aside) == mark {
		return false, shred(path + going)
	}
	err = os.Link(path+going, path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	return true, os.Remove(path + going)
}

// Holds implements Store.
func (b BlobFolder) Holds(_ context.Context, key string) (bool, error) {
	path, err := b.path(key)
	if err != nil {
		return false, err
	}
	_, err = os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fault.Unavailable("BLOB_UNAVAILABLE", "%s cannot be read", b).With(err)
	}
	return err == nil, nil
}

// Bucket is a replica or the platform's store in a bucket of an S3-compatible store. Its credential may list and delete versions.
type Bucket struct {
	client         *minio.Client
	bucket, prefix string
}

// BucketConfig names it.
type BucketConfig struct {
	Endpoint, Bucket, Prefix, Region, AccessKey, SecretKey string
	Insecure                                               bool
}

// OpenBucket makes the client; it does not contact the server.
func OpenBucket(c BucketConfig) (*Bucket, error) {
	client, err := minio.New(c.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""), Secure: !c.Insecure, Region: c.Region})
	if err != nil {
		return nil, fmt.Errorf("eraser: S3 endpoint %q: %w", c.Endpoint, err)
	}
	return &Bucket{client, c.Bucket, c.Prefix}, nil
}

// String is the bucket.
func (b *Bucket) String() string { return "bucket " + b.bucket }

// versions gives every version of an object, delete markers too.
func (b *Bucket) versions(ctx context.Context, key string) ([]minio.ObjectInfo, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var found []minio.ObjectInfo
	for info := range b.client.ListObjects(ctx, b.bucket, minio.ListObjectsOptions{Prefix: b.prefix + key, Recursive: true, WithVersions: true}) {
		if info.Err != nil {
			return nil, fault.Unavailable("VAULT_UNAVAILABLE", "%s cannot be listed", b).With(info.Err)
		}
		if info.Key == b.prefix+key {
			found = append(found, info)
		}
	}
	return found, nil
}

// Destroy implements Store: each version goes, in whatever order. A lock that has not ended keeps its version, for whoever asks.
func (b *Bucket) Destroy(ctx context.Context, key string) error {
	list, err := b.versions(ctx, key)
	if err != nil {
		return err
	}
	return b.remove(ctx, key, list)
}

func (b *Bucket) remove(ctx context.Context, key string, list []minio.ObjectInfo) error {
	for _, v := range list {
		err := b.client.RemoveObject(ctx, b.bucket, v.Key, minio.RemoveObjectOptions{VersionID: v.VersionID})
		if err == nil {
			continue
		}
		info, lockErr := b.client.StatObject(ctx, b.bucket, v.Key, minio.StatObjectOptions{VersionID: v.VersionID})
		if until := info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"); lockErr == nil && until != "" {
			return fault.Unavailable("OBJECT_LOCKED", "%s keeps %s until %s: nobody can remove it before", b, key, until).With(err)
		}
		return fault.Unavailable("VAULT_UNAVAILABLE", "%s: %s cannot be removed: the eraser's credential needs s3:DeleteObjectVersion", b, key).With(err)
	}
	return nil
}

// Holds implements Store.
func (b *Bucket) Holds(ctx context.Context, key string) (bool, error) {
	list, err := b.versions(ctx, key)
	for _, v := range list {
		if !v.IsDeleteMarker {
			return true, err
		}
	}
	return false, err
}

// List implements Replica.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		last := ""
		for info := range b.client.ListObjects(ctx, b.bucket, minio.ListObjectsOptions{Prefix: b.prefix + prefix, Recursive: true, WithVersions: true}) {
			if info.Err != nil {
				yield("", fault.Unavailable("VAULT_UNAVAILABLE", "%s cannot be listed", b).With(info.Err))
				return
			}
			if info.IsDeleteMarker || info.Key == last { // versions of a key come together
				continue
			}
			last = info.Key
			if !yield(strings.TrimPrefix(info.Key, b.prefix), nil) {
				return
			}
		}
	}
}

// Read implements Replica: the newest version, by its id, which needs no right but that to versions.
func (b *Bucket) Read(ctx context.Context, key string) ([]byte, error) {
	list, err := b.versions(ctx, key)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(v minio.ObjectInfo) bool { return v.IsDeleteMarker })
	if len(list) == 0 {
		return nil, fault.Unavailable("VAULT_UNAVAILABLE", "%s: %s was listed and is not there", b, key)
	}
	newest := slices.MaxFunc(list, func(x, y minio.ObjectInfo) int { return x.LastModified.Compare(y.LastModified) })
	body, err := b.client.GetObject(ctx, b.bucket, b.prefix+key, minio.GetObjectOptions{VersionID: newest.VersionID})
	if err == nil {
		defer body.Close()
		var raw []byte
		raw, err = io.ReadAll(body)
		if err == nil {
			return raw, nil
		}
	}
	return nil, fault.Unavailable("VAULT_UNAVAILABLE", "%s: %s cannot be read: the eraser's credential needs s3:GetObjectVersion", b, key).With(err)
}

// Erase implements Blobs. In a bucket with versions what is stored meanwhile is another version, and stays; without them whoever
// stores the same bytes in the instant between the look and the removal loses them.
func (b *Bucket) Erase(ctx context.Context, key, mark string) (changed bool, err error) {
	list, err := b.versions(ctx, key)
	if err != nil {
		return false, err
	}
	for _, v := range list {
		if v.IsLatest && !v.IsDeleteMarker && blob.MarkOfObject(v) != mark {
			return true, nil
		}
	}
	return false, b.remove(ctx, key, list)
}
