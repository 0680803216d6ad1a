package s3test

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const module = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// The credentials of the gateway's owner.
const (
	AccessKey = "test-access"
	SecretKey = "test-secret-test-secret"
)

// binary returns versitygw, building it when it is not there.
func binary(t testing.TB) string {
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

// Serve runs the gateway on loopback over a folder of the test, with further options of its posix back end,
// and gives its host:port.
func Serve(t testing.TB, posix ...string) (endpoint string) {
	t.Helper()
	return serve(t, nil, posix)
}

// ServeUsers is Serve with users that may do nothing but what the policy of a bucket says.
func ServeUsers(t testing.TB, posix ...string) (endpoint string) {
	t.Helper()
	return serve(t, []string{"--iam-dir", t.TempDir()}, posix)
}

// AddUser makes a user of such a gateway, with its name as access key, and allows it in the bucket what the file says: a
// policy as it is attached to a user, made one of the bucket.
func AddUser(t testing.TB, endpoint, name, bucket, policyFile string) (policy string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), binary(t), "admin", "-a", AccessKey, "-s", SecretKey, "-er", "http://"+endpoint, //nolint:gosec // of the test
		"create-user", "-a", name, "-s", SecretKey, "-r", "user").CombinedOutput()
	require.NoError(t, err, "%s", out)
	text, err := os.ReadFile(policyFile)
	require.NoError(t, err)
	var doc struct {
		Version   string           `json:"Version"`
		Statement []map[string]any `json:"Statement"`
	}
	buckets := regexp.MustCompile(`arn:aws:s3:::[a-z-]+`)
	named := buckets.FindAllString(string(text), -1)
	slices.Sort(named)
	require.Len(t, slices.Compact(named), 1, "%s speaks of one bucket", policyFile)
	require.NoError(t, json.Unmarshal(buckets.ReplaceAll(text, []byte("arn:aws:s3:::"+bucket)), &doc))
	for _, s := range doc.Statement {
		s["Principal"] = map[string]any{"AWS": []string{name}}
	}
	raw, err := json.Marshal(doc)
	require.NoError(t, err)
	return string(raw)
}

func serve(t testing.TB, global, posix []string) (endpoint string) {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	endpoint = l.Addr().String()
	require.NoError(t, l.Close())
	var log bytes.Buffer
	args := append(append([]string{"--port", endpoint}, global...), "posix")
	cmd := exec.Command(binary(t), append(append(args, posix...), dir)...)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
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
	return endpoint
}
