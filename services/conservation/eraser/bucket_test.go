//go:build s3

package eraser_test

import (
	"bytes"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/conservation/eraser"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/blob/s3test"
)

// TestBucket: every version goes, and what is under a lock stays until the lock ends, whoever asks.
func TestBucket(t *testing.T) {
	endpoint := s3test.Serve(t, "--versioning-dir", t.TempDir())
	owner, err := minio.New(endpoint, &minio.Options{Creds: credentials.NewStaticV4(s3test.AccessKey, s3test.SecretKey, ""), Region: "us-east-1"})
	require.NoError(t, err)
	require.NoError(t, owner.MakeBucket(t.Context(), "archive", minio.MakeBucketOptions{ObjectLocking: true}))
	v, err := vault.OpenBucket(vault.BucketConfig{Endpoint: endpoint, Bucket: "archive", Prefix: "a/", Region: "us-east-1", AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey, Insecure: true})
	require.NoError(t, err)
	s, err := eraser.OpenBucket(eraser.BucketConfig{Endpoint: endpoint, Bucket: "archive", Prefix: "a/", Region: "us-east-1", AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey, Insecure: true})
	require.NoError(t, err)
	put := func(key string, lock vault.Lock) {
		raw := []byte("content of " + key)
		require.NoError(t, v.Put(t.Context(), vault.Object{Key: key, Size: int64(len(raw)), SHA256: sha256.Sum256(raw)}, bytes.NewReader(raw), lock))
	}
	holds := func(key string) bool {
		held, err := s.Holds(t.Context(), key)
		require.NoError(t, err)
		return held
	}
	put("free.zip", vault.Lock{})
	_, err = owner.PutObject(t.Context(), "archive", "a/free.zip", bytes.NewReader([]byte("newer")), 5, minio.PutObjectOptions{SendContentMd5: true})
	require.NoError(t, err)
	require.True(t, holds("free.zip"))
	for range 2 {
		require.NoError(t, s.Destroy(t.Context(), "free.zip"))
	}
	require.False(t, holds("free.zip"))

	put("locked.zip", vault.Lock{Until: time.Now().Add(24 * time.Hour), Final: true})
	err = s.Destroy(t.Context(), "locked.zip")
	require.True(t, eraser.Locked(err), "%v", err)
	require.True(t, holds("locked.zip"))
}
