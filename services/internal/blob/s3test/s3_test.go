//go:build s3

package s3test_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/blob/blobtest"
	"ceralacca.dev/services/internal/blob/s3test"
	"ceralacca.dev/services/internal/fault"
)

const bucket = "documents"

func client(t *testing.T, endpoint string) *minio.Client {
	t.Helper()
	c, err := minio.New(endpoint, &minio.Options{Creds: credentials.NewStaticV4(s3test.AccessKey, s3test.SecretKey, ""), Region: "us-east-1"})
	require.NoError(t, err)
	return c
}

func TestS3(t *testing.T) {
	endpoint := s3test.Serve(t, "--nometa")
	raw := client(t, endpoint)
	require.NoError(t, raw.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}))
	s, err := blob.OpenS3(blob.S3Config{Endpoint: endpoint, Bucket: bucket, Prefix: "ceralacca/", Region: "us-east-1",
		AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey, Insecure: true})
	require.NoError(t, err)
	blobtest.Run(t, s, func(t *testing.T, ref blob.Ref, data []byte) {
		t.Helper()
		_, err := raw.PutObject(context.Background(), bucket, "ceralacca/tenants/"+ref.Tenant+"/"+ref.Hex(),
			bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{})
		require.NoError(t, err)
	})
}

// TestS3Trouble: a server that is away, a bucket that is not there and wrong
// credentials are Unavailable, and Check says so before any document is lost.
func TestS3Trouble(t *testing.T) {
	endpoint := s3test.Serve(t, "--nometa")
	good := blob.S3Config{Endpoint: endpoint, Bucket: bucket, Region: "us-east-1",
		AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey, Insecure: true,
		Transport: &http.Transport{ResponseHeaderTimeout: 2 * time.Second}}
	for name, change := range map[string]func(c *blob.S3Config){
		"no bucket":    func(*blob.S3Config) {},
		"wrong secret": func(c *blob.S3Config) { c.SecretKey = "another" },
		"away":         func(c *blob.S3Config) { c.Endpoint = "127.0.0.1:1" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			change(&cfg)
			s, err := blob.OpenS3(cfg)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			err = s.Check(ctx)
			require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind, fmt.Sprint(err))
		})
	}
}
