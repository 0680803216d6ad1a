package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3Config names a bucket of an S3-compatible store.
type S3Config struct {
	Endpoint  string // host:port, without scheme
	Bucket    string // must exist; this process never creates one
	Prefix    string // prepended to every key, for example "ceralacca/"
	Region    string // empty: asked from the server
	AccessKey string
	SecretKey string
	Insecure  bool              // plain HTTP: for a store on the same machine only
	Transport http.RoundTripper // nil: the client's default with system roots
}

// S3 is a store in a bucket; keys are <prefix>tenants/<tenant>/<hex sha256>.
// Objects are written with If-None-Match: * so that the server itself refuses
// to replace one. The server must support conditional writes (AWS since 2024,
// MinIO, Ceph, versitygw do).
type S3 struct {
	client *minio.Client
	cfg    S3Config
}

var _ Store = (*S3)(nil)

// OpenS3 makes the client; it does not contact the server (Check does).
func OpenS3(cfg S3Config) (*S3, error) {
	if cfg.Endpoint == "" || cfg.Bucket == "" {
		return nil, errors.New("blob: S3 needs an endpoint (host:port) and a bucket")
	}
	client, err := minio.New(cfg.Endpoint, &minio.Options{
		Creds:     credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, ""),
		Secure:    !cfg.Insecure,
		Region:    cfg.Region,
		Transport: cfg.Transport,
	})
	if err != nil {
		return nil, fmt.Errorf("blob: S3 endpoint %q: %w", cfg.Endpoint, err)
	}
	return &S3{client: client, cfg: cfg}, nil
}

// Put stores data; see Store.
func (s *S3) Put(ctx context.Context, tenant string, data []byte) (Ref, error) {
	if err := checkTenant(tenant); err != nil {
		return Ref{}, err
	}
	ref := Of(tenant, data)
	return ref, s.put(ctx, ref, bytes.NewReader(data))
}

// PutReader stores a stream; see Store. The name of an object is its hash, so
// the stream is spooled to a temporary file before anything is sent.
func (s *S3) PutReader(ctx context.Context, tenant string, r io.Reader) (Ref, error) {
	if err := checkTenant(tenant); err != nil {
		return Ref{}, err
	}
	spool, err := os.CreateTemp("", "ceralacca-blob-*")
	if err != nil {
		return Ref{}, unavailable(err, "spool a blob")
	}
	defer os.Remove(spool.Name())
	defer spool.Close()

	sum, src := sha256.New(), &source{ctx: ctx, r: r}
	size, err := io.Copy(io.MultiWriter(spool, sum), src)
	if src.err != nil {
		return Ref{}, src.err
	}
	if err != nil {
		return Ref{}, unavailable(err, "spool a blob")
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return Ref{}, unavailable(err, "spool a blob")
	}
	ref := Ref{Tenant: tenant, SHA256: [32]byte(sum.Sum(nil)), Size: size}
	return ref, s.put(ctx, ref, spool)
}

func (s *S3) put(ctx context.Context, ref Ref, body io.ReadSeeker) error {
	opts := minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true}
	opts.SetMatchETagExcept("*") // If-None-Match: *
	_, err := s.client.PutObject(ctx, s.cfg.Bucket, s.key(ref), body, ref.Size, opts)
	if err == nil {
		return nil
	}
	if minio.ToErrorResponse(err).StatusCode == http.StatusPreconditionFailed {
		return s.again(ctx, ref, body)
	}
	return s.fault(ctx, err, "be written")
}

// again confirms that the object which was there before is the blob, and writes the same bytes over it when that is not of just
// now: its mark changes, see Mark.
func (s *S3) again(ctx context.Context, ref Ref, body io.ReadSeeker) error {
	info, err := s.client.StatObject(ctx, s.cfg.Bucket, s.key(ref), minio.StatObjectOptions{})
	if err != nil {
		return s.fault(ctx, err, "be read")
	}
	if info.Size != ref.Size {
		return corrupt(ref, fmt.Sprintf("the object has %d bytes", info.Size))
	}
	if time.Since(info.LastModified) < fresh {
		return nil
	}
	_, err = body.Seek(0, io.SeekStart)
	if err == nil {
		_, err = s.client.PutObject(ctx, s.cfg.Bucket, s.key(ref), body, ref.Size, minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true})
	}
	if err != nil {
		return s.fault(ctx, err, "be written")
	}
	return nil
}

// fresh is for how long an object counts as of just now: disposals wait for longer before they ask who needs it.
const fresh = 10 * time.Minute

// Open streams a blob; see Store.
func (s *S3) Open(ctx context.Context, ref Ref) (io.ReadCloser, error) {
	if err := checkTenant(ref.Tenant); err != nil {
		return nil, err
	}
	object, err := s.client.GetObject(ctx, s.cfg.Bucket, s.key(ref), minio.GetObjectOptions{})
	if err != nil {
		return nil, s.fault(ctx, err, "be read")
	}
	// The client sends the request with the first use: ask now, so that an
	// absent blob is an error of Open and not of Read.
	if _, err := object.Stat(); err != nil {
		object.Close()
		if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
			return nil, notFound(ref)
		}
		return nil, s.fault(ctx, err, "be read")
	}
	return verifying(ref, object, func(err error) error { return s.fault(ctx, err, "be read") }), nil
}

// Get reads a whole blob; see Store.
func (s *S3) Get(ctx context.Context, ref Ref) ([]byte, error) {
	r, err := s.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	return readAll(ref, r)
}

// Check asks for the bucket, which notices an absent server, a wrong bucket
// and refused credentials.
func (s *S3) Check(ctx context.Context) error {
	found, err := s.client.BucketExists(ctx, s.cfg.Bucket)
	if err != nil {
		return s.fault(ctx, err, "be reached")
	}
	if !found {
		return unavailable(fmt.Errorf("bucket %q does not exist at %s", s.cfg.Bucket, s.cfg.Endpoint), "be used")
	}
	return nil
}

func (s *S3) key(ref Ref) string {
	return s.cfg.Prefix + "tenants/" + ref.Tenant + "/" + ref.Hex()
}

// fault keeps the caller's own cancellation apart from trouble of the store.
func (s *S3) fault(ctx context.Context, err error, doing string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return unavailable(fmt.Errorf("s3 %s: %w", s.cfg.Endpoint, err), doing)
}
