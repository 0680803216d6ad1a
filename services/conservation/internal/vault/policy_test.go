//go:build s3

package vault_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/blob/s3test"
)

// TestPolicy: with a user that may do what deploy/archive/s3-policy.json says and nothing else, a bucket is all that an
// archive needs, and that user destroys nothing and shortens nothing.
func TestPolicy(t *testing.T) {
	endpoint := s3test.ServeUsers(t, "--versioning-dir", t.TempDir())
	as := func(name string) *minio.Client {
		c, err := minio.New(endpoint, &minio.Options{Creds: credentials.NewStaticV4(name, s3test.SecretKey, ""), Region: "us-east-1"})
		require.NoError(t, err)
		return c
	}
	owner, service := as(s3test.AccessKey), as("service")
	require.NoError(t, owner.MakeBucket(t.Context(), bucketName, minio.MakeBucketOptions{ObjectLocking: true}))
	cfg := vault.BucketConfig{Endpoint: endpoint, Bucket: bucketName, Prefix: "archive/", Region: "us-east-1", AccessKey: "service", SecretKey: s3test.SecretKey, Insecure: true}
	policy := s3test.AddUser(t, endpoint, "service", bucketName, "../../../../deploy/archive/s3-policy.json")
	v, err := vault.OpenBucket(cfg)
	require.NoError(t, err)
	require.Equal(t, "VAULT_UNAVAILABLE", code(v.Check(t.Context())), "without the policy it may nothing")
	require.NoError(t, owner.SetBucketPolicy(t.Context(), bucketName, policy))
	suite(t, v, func(t *testing.T, key string, data []byte) {
		t.Helper()
		if data == nil {
			require.NoError(t, owner.RemoveObject(t.Context(), bucketName, cfg.Prefix+key, minio.RemoveObjectOptions{}))
			return
		}
		_, err := owner.PutObject(t.Context(), bucketName, cfg.Prefix+key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{})
		require.NoError(t, err)
	})

	data := []byte("what is kept")
	for name, lock := range map[string]vault.Lock{"waiting": {Until: time.Now().Add(time.Hour)}, "sealed": {Until: time.Now().Add(time.Hour), Final: true}, "free": {}} {
		o := object(name, data)
		require.NoError(t, v.Put(t.Context(), o, bytes.NewReader(data), lock))
		key := cfg.Prefix + name
		info, err := owner.StatObject(t.Context(), bucketName, key, minio.StatObjectOptions{})
		require.NoError(t, err)
		for act, err := range map[string]error{
			"remove":                service.RemoveObject(t.Context(), bucketName, key, minio.RemoveObjectOptions{}),
			"remove the version":    service.RemoveObject(t.Context(), bucketName, key, minio.RemoveObjectOptions{VersionID: info.VersionID}),
			"bypass":                service.RemoveObject(t.Context(), bucketName, key, minio.RemoveObjectOptions{VersionID: info.VersionID, GovernanceBypass: true}),
			"suspend versioning":    service.SuspendVersioning(t.Context(), bucketName),
			"change the lock":       service.SetBucketObjectLockConfig(t.Context(), bucketName, nil, nil, nil),
			"change its own policy": service.SetBucketPolicy(t.Context(), bucketName, policy),
			"remove the bucket":     service.RemoveBucket(t.Context(), bucketName),
		} {
			require.Equal(t, "AccessDenied", minio.ToErrorResponse(err).Code, "%s: %s: %v", name, act, err)
		}
		if mode, sooner := minio.Governance, time.Now().Add(time.Minute); lock != (vault.Lock{}) {
			require.Error(t, service.PutObjectRetention(t.Context(), bucketName, key, minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &sooner, GovernanceBypass: true}), "shorten: %s", name)
		}
		require.NoError(t, vault.Verify(t.Context(), v, o), name)
	}
}
