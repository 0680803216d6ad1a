//go:build s3

package eraser_test

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/conservation/eraser"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/blob/s3test"
	"ceralacca.dev/services/internal/fault"
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
	put("other/x.zip", vault.Lock{})
	require.Equal(t, []string{"free.zip", "other/x.zip"}, listed(t, s, ""), "each key once, however many versions it has")
	require.Equal(t, []string{"other/x.zip"}, listed(t, s, "other/"))
	raw, err := s.Read(t.Context(), "free.zip")
	require.NoError(t, err)
	require.Equal(t, "newer", string(raw))
	_, err = s.Read(t.Context(), "none.zip")
	require.Error(t, err)
	for range 2 {
		require.NoError(t, s.Destroy(t.Context(), "free.zip"))
	}
	require.False(t, holds("free.zip"))
	require.Equal(t, []string{"other/x.zip"}, listed(t, s, ""))

	put("locked.zip", vault.Lock{Until: time.Now().Add(24 * time.Hour), Final: true})
	err = s.Destroy(t.Context(), "locked.zip")
	require.True(t, eraser.Locked(err), "%v", err)
	require.True(t, holds("locked.zip"))
}

// TestBucketOfBlobs: in the platform's store, with versions and without, what lies as it did when everybody was asked goes in all its
// versions; what was stored anew since stays.
func TestBucketOfBlobs(t *testing.T) {
	for name, options := range map[string][]string{"versions": {"--versioning-dir", t.TempDir()}, "none": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoint := s3test.Serve(t, options...)
			owner, err := minio.New(endpoint, &minio.Options{Creds: credentials.NewStaticV4(s3test.AccessKey, s3test.SecretKey, ""), Region: "us-east-1"})
			require.NoError(t, err)
			require.NoError(t, owner.MakeBucket(t.Context(), "blobs", minio.MakeBucketOptions{}))
			if len(options) > 0 {
				require.NoError(t, owner.EnableVersioning(t.Context(), "blobs"))
			}
			store, err := blob.OpenS3(blob.S3Config{Endpoint: endpoint, Bucket: "blobs", Prefix: "c/", Region: "us-east-1", AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey, Insecure: true})
			require.NoError(t, err)
			s, err := eraser.OpenBucket(eraser.BucketConfig{Endpoint: endpoint, Bucket: "blobs", Prefix: "c/tenants/", Region: "us-east-1", AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey, Insecure: true})
			require.NoError(t, err)
			put := func(text string) (ref blob.Ref, key, mark string) {
				ref, err := store.Put(t.Context(), "acme", []byte(text))
				require.NoError(t, err)
				m, err := store.Mark(t.Context(), ref)
				require.NoError(t, err)
				return ref, "acme/" + ref.Hex(), m.Text
			}
			again := func(ref blob.Ref, text string) { // as a Put does once the object is some minutes old
				time.Sleep(1100 * time.Millisecond) // marks have seconds
				_, err := owner.PutObject(t.Context(), "blobs", "c/tenants/acme/"+ref.Hex(), strings.NewReader(text), int64(len(text)), minio.PutObjectOptions{SendContentMd5: true})
				require.NoError(t, err)
			}
			gone, goneKey, goneMark := put("nobody needs it")
			stays, staysKey, staysMark := put("somebody stores it again")
			other, _, _ := put("others")
			again(stays, "somebody stores it again")
			for range 2 {
				changed, err := s.Erase(t.Context(), goneKey, goneMark)
				require.NoError(t, err)
				require.False(t, changed)
			}
			_, err = store.Get(t.Context(), gone)
			require.Equal(t, "BLOB_NOT_FOUND", fault.Of(err).Code)
			held, err := s.Holds(t.Context(), goneKey)
			require.NoError(t, err)
			require.False(t, held)
			changed, err := s.Erase(t.Context(), staysKey, staysMark)
			require.NoError(t, err)
			require.True(t, changed)
			for _, ref := range []blob.Ref{stays, other} {
				_, err = store.Get(t.Context(), ref)
				require.NoError(t, err)
			}
			m, err := store.Mark(t.Context(), stays)
			require.NoError(t, err)
			changed, err = s.Erase(t.Context(), staysKey, m.Text)
			require.NoError(t, err)
			require.False(t, changed)
			held, err = s.Holds(t.Context(), staysKey)
			require.NoError(t, err)
			require.False(t, held, "in no version")
			_, back, mark := put("nobody needs it")
			changed, err = s.Erase(t.Context(), back, mark)
			require.NoError(t, err)
			require.False(t, changed, "what was erased can be stored and erased again")
		})
	}
}
