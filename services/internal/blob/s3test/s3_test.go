//go:build s3

package s3test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/blob/blobtest"
	"ceralacca.dev/services/internal/fault"
)

const (
	module    = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
	accessKey = "test-access"
	secretKey = "test-secret-test-secret"
	bucket    = "documents"
)

// binary returns versitygw, building it when it is not there.
func binary(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOMOD").Output()
	require.NoError(t, err)
	cache := filepath.Join(filepath.Dir(string(bytes.TrimSpace(out))), "..", ".cache", "bin")
	path := filepath.Join(cache, "versitygw")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	t.Logf("building %s into .cache/bin: about a minute, once", module)
	require.NoError(t, os.MkdirAll(cache, 0o755))
	build := exec.CommandContext(t.Context(), "go", "install", module)
	build.Dir = t.TempDir()
	build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GOBIN="+cache, "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return path
}

// serve runs the gateway on loopback over a folder of the test.
func serve(t *testing.T) (endpoint, dir string) {
	t.Helper()
	dir = t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	endpoint = l.Addr().String()
	require.NoError(t, l.Close())
	var log bytes.Buffer
	cmd := exec.Command(binary(t), "--port", endpoint, "posix", "--nometa", dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey)
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		_ = cmd.Wait() // ended by our signal
		if t.Failed() {
			t.Logf("versitygw:\n%s", log.String())
		}
	})
	require.Eventually(t, func() bool {
		conn, err := net.DialTimeout("tcp", endpoint, time.Second)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}, 20*time.Second, 20*time.Millisecond)
	return endpoint, dir
}

func client(t *testing.T, endpoint string) *minio.Client {
	t.Helper()
	c, err := minio.New(endpoint, &minio.Options{Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: "us-east-1"})
	require.NoError(t, err)
	return c
}

func TestS3(t *testing.T) {
	endpoint, _ := serve(t)
	raw := client(t, endpoint)
	require.NoError(t, raw.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}))
	s, err := blob.OpenS3(blob.S3Config{Endpoint: endpoint, Bucket: bucket, Prefix: "ceralacca/", Region: "us-east-1",
		AccessKey: accessKey, SecretKey: secretKey, Insecure: true})
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
	endpoint, _ := serve(t)
	good := blob.S3Config{Endpoint: endpoint, Bucket: bucket, Region: "us-east-1",
		AccessKey: accessKey, SecretKey: secretKey, Insecure: true,
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
