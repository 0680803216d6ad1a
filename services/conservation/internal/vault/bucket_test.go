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

// Test39_ObjectLock: what is locked cannot be deleted, overwritten or have its retention shortened or weakened, neither by the owner of the
// store nor by the archive's own user, which may do what deploy/archive/s3-policy.json says; it can be locked for longer.
func Test39_ObjectLock(t *testing.T) {
	endpoint := s3test.ServeUsers(t, "--versioning-dir", t.TempDir())
	as := func(name string) *minio.Client {
		c, err := minio.New(endpoint, &minio.Options{Creds: credentials.NewStaticV4(name, s3test.SecretKey, ""), Region: "us-east-1"})
		require.NoError(t, err)
		return c
	}
	owner, service := as(s3test.AccessKey), as("service")
	require.NoError(t, owner.MakeBucket(t.Context(), bucketName, minio.MakeBucketOptions{ObjectLocking: true}))
	require.NoError(t, owner.SetBucketPolicy(t.Context(), bucketName, s3test.AddUser(t, endpoint, "service", bucketName, "../../../../deploy/archive/s3-policy.json")))
	v, err := vault.OpenBucket(vault.BucketConfig{Endpoint: endpoint, Bucket: bucketName, Prefix: "archive/", Region: "us-east-1", AccessKey: "service", SecretKey: s3test.SecretKey, Insecure: true})
	require.NoError(t, err)
	data, other := []byte("kept for ten years"), []byte("KEPT FOR TEN YEARS")
	until := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second)
	for who, client := range map[string]*minio.Client{"admin": owner, "service": service} {
		t.Run(who, func(t *testing.T) {
			o := object("tenants/acme/packages/"+who+".zip", data)
			key := "archive/" + o.Key
			require.NoError(t, v.Put(t.Context(), o, bytes.NewReader(data), vault.Lock{Until: until, Final: true}))
			info, err := owner.StatObject(t.Context(), bucketName, key, minio.StatObjectOptions{})
			require.NoError(t, err)
			mode, weaker := minio.Compliance, minio.Governance
			require.Equal(t, mode.String(), info.Metadata.Get("X-Amz-Object-Lock-Mode"))
			require.Equal(t, until.Format(time.RFC3339), info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
			retain := func(mode minio.RetentionMode, until time.Time) error {
				return client.PutObjectRetention(t.Context(), bucketName, key, minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &until, GovernanceBypass: true, VersionID: info.VersionID})
			}
			for act, err := range map[string]error{
				"delete the version":              client.RemoveObject(t.Context(), bucketName, key, minio.RemoveObjectOptions{VersionID: info.VersionID}),
				"delete it with the bypass right": client.RemoveObject(t.Context(), bucketName, key, minio.RemoveObjectOptions{VersionID: info.VersionID, GovernanceBypass: true}),
				"shorten":                         retain(mode, time.Now().Add(time.Hour)),
				"weaken":                          retain(weaker, until),
				"suspend the versions":            client.SuspendVersioning(t.Context(), bucketName),
				"remove the bucket":               client.RemoveBucket(t.Context(), bucketName),
			} {
				require.Error(t, err, act)
			}
			// A deletion without a version is a mark over the sealed bytes at most, and of the archive's own user not even that; another object
			// over them is a newer version. They stay, and the vault says that what it finds is not them.
			err = client.RemoveObject(t.Context(), bucketName, key, minio.RemoveObjectOptions{})
			if who == "service" {
				require.Equal(t, "AccessDenied", minio.ToErrorResponse(err).Code, "%v", err)
				require.NoError(t, vault.Verify(t.Context(), v, o))
			}
			_, err = client.PutObject(t.Context(), bucketName, key, bytes.NewReader(other), int64(len(other)), minio.PutObjectOptions{SendContentMd5: true})
			if err == nil {
				require.True(t, vault.Damaged(vault.Verify(t.Context(), v, o)))
			}
			former, err := owner.GetObject(t.Context(), bucketName, key, minio.GetObjectOptions{VersionID: info.VersionID})
			require.NoError(t, err)
			var kept bytes.Buffer
			_, err = kept.ReadFrom(former)
			require.NoError(t, err)
			require.Equal(t, data, kept.Bytes())
			require.Error(t, owner.RemoveObject(t.Context(), bucketName, key, minio.RemoveObjectOptions{VersionID: info.VersionID, GovernanceBypass: true}), "locked as before")
			require.NoError(t, retain(mode, until.Add(time.Hour)), "longer is allowed")
			_, err = v.Replace(t.Context(), o, bytes.NewReader(data), vault.Lock{Until: until, Final: true})
			require.NoError(t, err)
			require.NoError(t, vault.Verify(t.Context(), v, o))
		})
	}
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
