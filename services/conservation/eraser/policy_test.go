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
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/blob/s3test"
)

// TestPolicies: with the users of deploy/archive the service writes and cannot destroy, and the eraser destroys what is
// under no lock and cannot write; in the archive's bucket and in the platform's.
func TestPolicies(t *testing.T) {
	const policies = "../../../deploy/archive/"
	endpoint := s3test.ServeUsers(t, "--versioning-dir", t.TempDir())
	as := func(name string) *minio.Client {
		c, err := minio.New(endpoint, &minio.Options{Creds: credentials.NewStaticV4(name, s3test.SecretKey, ""), Region: "us-east-1"})
		require.NoError(t, err)
		return c
	}
	owner := as(s3test.AccessKey)
	denied := func(err error, what string) {
		t.Helper()
		require.Equal(t, "AccessDenied", minio.ToErrorResponse(err).Code, "%s: %v", what, err)
	}

	t.Run("archive", func(t *testing.T) {
		require.NoError(t, owner.MakeBucket(t.Context(), "archive", minio.MakeBucketOptions{ObjectLocking: true}))
		require.NoError(t, owner.SetBucketPolicy(t.Context(), "archive", s3test.AddUser(t, endpoint, "archive-eraser", "archive", policies+"s3-eraser-policy.json")))
		v, err := vault.OpenBucket(vault.BucketConfig{Endpoint: endpoint, Bucket: "archive", Prefix: "a/", Region: "us-east-1", AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey, Insecure: true})
		require.NoError(t, err)
		s, err := eraser.OpenBucket(eraser.BucketConfig{Endpoint: endpoint, Bucket: "archive", Prefix: "a/", Region: "us-east-1", AccessKey: "archive-eraser", SecretKey: s3test.SecretKey, Insecure: true})
		require.NoError(t, err)
		raw := []byte("content")
		for key, lock := range map[string]vault.Lock{"free": {}, "sealed": {Until: time.Now().Add(time.Hour), Final: true}, "waiting": {Until: time.Now().Add(time.Hour)}} {
			require.NoError(t, v.Put(t.Context(), vault.Object{Key: key, Size: int64(len(raw)), SHA256: sha256.Sum256(raw)}, bytes.NewReader(raw), lock))
		}
		require.Equal(t, []string{"free", "sealed", "waiting"}, listed(t, s, ""))
		read, err := s.Read(t.Context(), "free")
		require.NoError(t, err)
		require.Equal(t, raw, read)
		require.NoError(t, s.Destroy(t.Context(), "free"))
		for _, key := range []string{"sealed", "waiting"} {
			err = s.Destroy(t.Context(), key)
			require.True(t, eraser.Locked(err), "%s: %v", key, err)
		}
		require.Equal(t, []string{"sealed", "waiting"}, listed(t, s, ""))
		_, err = as("archive-eraser").PutObject(t.Context(), "archive", "a/new", bytes.NewReader(raw), int64(len(raw)), minio.PutObjectOptions{SendContentMd5: true})
		denied(err, "write")
		info, err := owner.StatObject(t.Context(), "archive", "a/waiting", minio.StatObjectOptions{})
		require.NoError(t, err)
		require.Error(t, as("archive-eraser").RemoveObject(t.Context(), "archive", "a/waiting", minio.RemoveObjectOptions{VersionID: info.VersionID, GovernanceBypass: true}), "bypass")
	})

	t.Run("documents", func(t *testing.T) {
		require.NoError(t, owner.MakeBucket(t.Context(), "documents", minio.MakeBucketOptions{}))
		require.NoError(t, owner.EnableVersioning(t.Context(), "documents"))
		require.NoError(t, owner.SetBucketPolicy(t.Context(), "documents", s3test.AddUser(t, endpoint, "services", "documents", policies+"s3-documents-policy.json")))
		store, err := blob.OpenS3(blob.S3Config{Endpoint: endpoint, Bucket: "documents", Prefix: "c/", Region: "us-east-1", AccessKey: "services", SecretKey: s3test.SecretKey, Insecure: true})
		require.NoError(t, err)
		require.NoError(t, store.Check(t.Context()))
		ref, err := store.Put(t.Context(), "acme", []byte("a document"))
		require.NoError(t, err)
		again, err := store.Put(t.Context(), "acme", []byte("a document"))
		require.NoError(t, err)
		require.Equal(t, ref, again)
		mark, err := store.Mark(t.Context(), ref)
		require.NoError(t, err)
		denied(as("services").RemoveObject(t.Context(), "documents", "c/tenants/acme/"+ref.Hex(), minio.RemoveObjectOptions{}), "remove")
		info, err := owner.StatObject(t.Context(), "documents", "c/tenants/acme/"+ref.Hex(), minio.StatObjectOptions{})
		require.NoError(t, err)
		denied(as("services").RemoveObject(t.Context(), "documents", "c/tenants/acme/"+ref.Hex(), minio.RemoveObjectOptions{VersionID: info.VersionID}), "remove the version")

		require.NoError(t, owner.SetBucketPolicy(t.Context(), "documents", s3test.AddUser(t, endpoint, "documents-eraser", "documents", policies+"s3-eraser-policy.json")))
		s, err := eraser.OpenBucket(eraser.BucketConfig{Endpoint: endpoint, Bucket: "documents", Prefix: "c/tenants/", Region: "us-east-1", AccessKey: "documents-eraser", SecretKey: s3test.SecretKey, Insecure: true})
		require.NoError(t, err)
		changed, err := s.Erase(t.Context(), "acme/"+ref.Hex(), mark.Text)
		require.NoError(t, err)
		require.False(t, changed)
		held, err := s.Holds(t.Context(), "acme/"+ref.Hex())
		require.NoError(t, err)
		require.False(t, held, "in no version")
	})
}
