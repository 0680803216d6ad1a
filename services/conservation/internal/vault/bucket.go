package vault

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"ceralacca.dev/services/internal/fault"
)

// BucketConfig names a bucket of an S3-compatible store, made with versioning and Object Lock.
type BucketConfig struct {
	Endpoint  string // host:port, without scheme
	Bucket    string // must exist; this process never creates one
	Prefix    string // of every key, for example archive/
	Region    string // empty: asked from the server
	AccessKey string
	SecretKey string
	Insecure  bool              // plain HTTP: for a store on the same machine only
	Transport http.RoundTripper // nil: the client's default with system roots
}

// Bucket is a vault in a bucket with Object Lock. Objects are written with If-None-Match: *, so that the
// server itself refuses to replace one, and with the SHA-256 that the server has to find; locks are put in
// the same request. A damaged copy is repaired by a newer version: the damaged one stays as a former version
// of the object, under its own lock.
type Bucket struct {
	client *minio.Client
	cfg    BucketConfig
}

var _ Vault = (*Bucket)(nil)

// OpenBucket makes the client; it does not contact the server (Check does).
func OpenBucket(cfg BucketConfig) (*Bucket, error) {
	if cfg.Endpoint == "" || cfg.Bucket == "" {
		return nil, errors.New("vault: S3 needs an endpoint (host:port) and a bucket")
	}
	client, err := minio.New(cfg.Endpoint, &minio.Options{
		Creds:  credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, ""),
		Secure: !cfg.Insecure, Region: cfg.Region, Transport: cfg.Transport,
		MaxRetries: 2, // who calls knows better what an absent replica means
	})
	if err != nil {
		return nil, fmt.Errorf("vault: S3 endpoint %q: %w", cfg.Endpoint, err)
	}
	return &Bucket{client: client, cfg: cfg}, nil
}

// String is the bucket.
func (b *Bucket) String() string { return "bucket " + b.cfg.Bucket + " at " + b.cfg.Endpoint }

// Put implements Vault.
func (b *Bucket) Put(ctx context.Context, o Object, r io.ReaderAt, lock Lock) error {
	err := checkKey(o.Key)
	if err != nil {
		return err
	}
	err = b.send(ctx, o, r, lock, true)
	there := minio.ToErrorResponse(err).StatusCode == http.StatusPreconditionFailed
	if err != nil && !there {
		return b.fault(ctx, err, "be written")
	}
	err = Verify(ctx, b, o)
	if there && Damaged(err) {
		return conflict(o.Key)
	}
	return err
}

func (b *Bucket) send(ctx context.Context, o Object, r io.ReaderAt, lock Lock, once bool) error {
	opts := minio.PutObjectOptions{
		ContentType: "application/octet-stream", DisableMultipart: true, SendContentMd5: true,
		// The server refuses other bytes than these. In capitals, since the client takes the other spelling for
		// a wish to send it as a trailer, which not every store reads.
		UserMetadata: map[string]string{"X-Amz-Checksum-Sha256": base64.StdEncoding.EncodeToString(o.SHA256[:])},
	}
	if once {
		opts.SetMatchETagExcept("*") // If-None-Match: *
	}
	if !lock.Until.IsZero() {
		opts.Mode, opts.RetainUntilDate = minio.Governance, lock.Until.UTC()
		if lock.Final {
			opts.Mode = minio.Compliance
		}
	}
	var body io.Reader = io.NewSectionReader(r, 0, o.Size)
	if o.Size == 0 {
		body = bytes.NewReader(nil)
	}
	_, err := b.client.PutObject(ctx, b.cfg.Bucket, b.cfg.Prefix+o.Key, body, o.Size, opts)
	return err
}

// Open implements Vault.
func (b *Bucket) Open(ctx context.Context, o Object) (io.ReadCloser, error) {
	err := checkKey(o.Key)
	if err != nil {
		return nil, err
	}
	object, err := b.client.GetObject(ctx, b.cfg.Bucket, b.cfg.Prefix+o.Key, minio.GetObjectOptions{})
	if err != nil {
		return nil, b.fault(ctx, err, "be read")
	}
	// The client sends the request with the first use: ask now, so that an absent object is an error of Open.
	_, err = object.Stat()
	if err != nil {
		_ = object.Close()
		if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
			return nil, notFound(o.Key)
		}
		return nil, b.fault(ctx, err, "be read")
	}
	return verifying(o, object, func(err error) error { return b.fault(ctx, err, "be read") }), nil
}

// Replace implements Vault.
func (b *Bucket) Replace(ctx context.Context, o Object, r io.ReaderAt, lock Lock) (string, error) {
	err := checkKey(o.Key)
	if err != nil {
		return "", err
	}
	err = Verify(ctx, b, o)
	if err != nil {
		err = Judge(ctx, b, o, err)
	}
	switch {
	case err == nil:
		return "", nil // it is good
	case !Damaged(err):
		return "", err
	}
	quarantine := ""
	info, err := b.client.StatObject(ctx, b.cfg.Bucket, b.cfg.Prefix+o.Key, minio.StatObjectOptions{})
	switch {
	case err == nil && info.VersionID == "":
		return "", fault.Precondition("VAULT_NOT_VERSIONED", "%s keeps no versions: the damaged copy of %s would be lost; turn versioning on", b, o.Key)
	case err == nil:
		quarantine = o.Key + "?versionId=" + info.VersionID
	case minio.ToErrorResponse(err).Code != minio.NoSuchKey:
		return "", b.fault(ctx, err, "be read")
	}
	err = b.send(ctx, o, r, lock, false)
	if err != nil {
		return "", b.fault(ctx, err, "be written")
	}
	return quarantine, Verify(ctx, b, o)
}

// List implements Vault.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		for info := range b.client.ListObjects(ctx, b.cfg.Bucket, minio.ListObjectsOptions{Prefix: b.cfg.Prefix + prefix, Recursive: true}) {
			if info.Err != nil {
				yield(Entry{}, b.fault(ctx, info.Err, "be listed"))
				return
			}
			if !yield(Entry{strings.TrimPrefix(info.Key, b.cfg.Prefix), info.Size}, nil) {
				return
			}
		}
	}
}

// Check asks for the bucket and its Object Lock: a bucket without one does not hold what this archive promises.
func (b *Bucket) Check(ctx context.Context) error {
	found, err := b.client.BucketExists(ctx, b.cfg.Bucket)
	if err != nil {
		return b.fault(ctx, err, "be reached")
	}
	if !found {
		return unavailable(nil, "%s does not exist", b)
	}
	locked, _, _, _, err := b.client.GetObjectLockConfig(ctx, b.cfg.Bucket)
	if err != nil && minio.ToErrorResponse(err).Code != "ObjectLockConfigurationNotFoundError" {
		return b.fault(ctx, err, "be asked for its Object Lock")
	}
	if locked != "Enabled" {
		return fault.Precondition("VAULT_NOT_LOCKED", "%s has no Object Lock: make a bucket with it (it cannot be added to every store later)", b)
	}
	return nil
}

// fault keeps the caller's own cancellation apart from trouble of the store.
func (b *Bucket) fault(ctx context.Context, err error, doing string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return unavailable(err, "%s cannot %s", b, doing)
}
