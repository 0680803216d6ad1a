//go:build s3

package vault_test

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/blob/s3test"
)

const bucketName = "archive"

// gateway is a real S3 server with versions and Object Lock, and its owner's client.
func gateway(t *testing.T) (*minio.Client, vault.BucketConfig) {
	t.Helper()
	endpoint := s3test.Serve(t, "--versioning-dir", t.TempDir())
	owner, err := minio.New(endpoint, &minio.Options{Creds: credentials.NewStaticV4(s3test.AccessKey, s3test.SecretKey, ""), Region: "us-east-1"})
	require.NoError(t, err)
	require.NoError(t, owner.MakeBucket(t.Context(), bucketName, minio.MakeBucketOptions{ObjectLocking: true}))
	return owner, vault.BucketConfig{Endpoint: endpoint, Bucket: bucketName, Prefix: "archive/", Region: "us-east-1",
		AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey, Insecure: true}
}

func TestBucket(t *testing.T) {
	owner, cfg := gateway(t)
	v, err := vault.OpenBucket(cfg)
	require.NoError(t, err)
	suite(t, v, func(t *testing.T, key string, data []byte) {
		t.Helper()
		if data == nil {
			require.NoError(t, owner.RemoveObject(t.Context(), bucketName, cfg.Prefix+key, minio.RemoveObjectOptions{}))
			return
		}
		_, err := owner.PutObject(t.Context(), bucketName, cfg.Prefix+key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{})
		require.NoError(t, err)
	})
}

// Test39_ObjectLock: what is locked cannot be deleted, overwritten or have its retention shortened, not even
// by the owner of the store.
func Test39_ObjectLock(t *testing.T) {
	owner, cfg := gateway(t)
	v, err := vault.OpenBucket(cfg)
	require.NoError(t, err)
	data := []byte("kept for ten years")
	o := object("tenants/acme/packages/x.zip", data)
	until := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second)
	require.NoError(t, v.Put(t.Context(), o, bytes.NewReader(data), vault.Lock{Until: until, Final: true}))
	key := cfg.Prefix + o.Key
	info, err := owner.StatObject(t.Context(), bucketName, key, minio.StatObjectOptions{})
	require.NoError(t, err)
	mode, weaker := minio.Compliance, minio.Governance
	require.Equal(t, mode.String(), info.Metadata.Get("X-Amz-Object-Lock-Mode"))
	require.Equal(t, until.Format(time.RFC3339), info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	for name, opts := range map[string]minio.RemoveObjectOptions{
		"delete the version":              {VersionID: info.VersionID},
		"delete it with the bypass right": {VersionID: info.VersionID, GovernanceBypass: true},
	} {
		require.Error(t, owner.RemoveObject(t.Context(), bucketName, key, opts), name)
	}
	sooner := time.Now().Add(time.Hour)
	require.Error(t, owner.PutObjectRetention(t.Context(), bucketName, key, minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &sooner, GovernanceBypass: true}), "shorten")
	require.Error(t, owner.PutObjectRetention(t.Context(), bucketName, key, minio.PutObjectRetentionOptions{Mode: &weaker, RetainUntilDate: &until, GovernanceBypass: true}), "weaken")
	later := until.Add(time.Hour)
	require.NoError(t, owner.PutObjectRetention(t.Context(), bucketName, key, minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &later}), "longer is allowed")

	// Another object over it is a newer version at most: the sealed bytes stay, and the vault says that what it finds is not them.
	other := []byte("KEPT FOR TEN YEARS")
	_, err = owner.PutObject(t.Context(), bucketName, key, bytes.NewReader(other), int64(len(other)), minio.PutObjectOptions{SendContentMd5: true})
	if err == nil {
		require.True(t, vault.Damaged(vault.Verify(t.Context(), v, o)))
	}
	former, err := owner.GetObject(t.Context(), bucketName, key, minio.GetObjectOptions{VersionID: info.VersionID})
	require.NoError(t, err)
	var kept bytes.Buffer
	_, err = kept.ReadFrom(former)
	require.NoError(t, err)
	require.Equal(t, data, kept.Bytes())
	_, err = v.Replace(t.Context(), o, bytes.NewReader(data), vault.Lock{Until: until, Final: true})
	require.NoError(t, err)
	require.NoError(t, vault.Verify(t.Context(), v, o))
}

func TestBucketTrouble(t *testing.T) {
	owner, good := gateway(t)
	good.Transport = &http.Transport{ResponseHeaderTimeout: 2 * time.Second}
	require.NoError(t, owner.MakeBucket(t.Context(), "unlocked", minio.MakeBucketOptions{}))
	for want, change := range map[string]func(c *vault.BucketConfig){
		"VAULT_NOT_LOCKED":  func(c *vault.BucketConfig) { c.Bucket = "unlocked" },
		"VAULT_UNAVAILABLE": func(c *vault.BucketConfig) { c.Bucket = "absent" },
	} {
		cfg := good
		change(&cfg)
		v, err := vault.OpenBucket(cfg)
		require.NoError(t, err)
		require.Equal(t, want, code(v.Check(t.Context())))
	}
	for name, change := range map[string]func(c *vault.BucketConfig){
		"secret": func(c *vault.BucketConfig) { c.SecretKey = "another" },
		"away":   func(c *vault.BucketConfig) { c.Endpoint = "127.0.0.1:1" },
	} {
		cfg := good
		change(&cfg)
		v, err := vault.OpenBucket(cfg)
		require.NoError(t, err)
		require.Equal(t, "VAULT_UNAVAILABLE", code(v.Check(t.Context())), name)
		require.Equal(t, "VAULT_UNAVAILABLE", code(v.Put(t.Context(), object("x", []byte("x")), bytes.NewReader([]byte("x")), vault.Lock{})), name)
	}
	_, err := vault.OpenBucket(vault.BucketConfig{})
	require.ErrorContains(t, err, "endpoint")
}
