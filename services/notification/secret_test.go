package notification

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func keyFile(t testing.TB, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return path
}

func TestSecretsOpenWithTheirKeyAndPlaceOnly(t *testing.T) {
	one := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("1", 32)))
	two := strings.Repeat("ab", 32) // hexadecimal
	old, err := readSealer(keyFile(t, one))
	require.NoError(t, err)
	id := uuid.New()
	sealed, err := old.seal([]byte("the secret"), secretLabel("acme", id))
	require.NoError(t, err)
	require.NotContains(t, string(sealed), "the secret")

	// A new key in front: what the old one sealed still opens, new seals are the new key's.
	both, err := readSealer(keyFile(t, two, "", one))
	require.NoError(t, err)
	plain, err := both.open(sealed, secretLabel("acme", id))
	require.NoError(t, err)
	require.Equal(t, "the secret", string(plain))
	resealed, err := both.seal(plain, secretLabel("acme", id))
	require.NoError(t, err)
	_, err = old.open(resealed, secretLabel("acme", id))
	require.ErrorContains(t, err, "put the earlier key back")

	_, err = both.open(sealed, secretLabel("acme", uuid.New()))
	require.Error(t, err, "moved to another row")
	_, err = both.open(sealed, secretLabel("brio", id))
	require.Error(t, err, "moved to another tenant")
	sealed[len(sealed)-1] ^= 1
	_, err = both.open(sealed, secretLabel("acme", id))
	require.Error(t, err, "altered")
	_, err = both.open(nil, secretLabel("acme", id))
	require.Error(t, err)

	_, err = readSealer(keyFile(t, "short"))
	require.ErrorContains(t, err, "line 1: want 32 bytes")
	_, err = readSealer(keyFile(t, ""))
	require.ErrorContains(t, err, "holds no key")
	_, err = readSealer(filepath.Join(t.TempDir(), "none"))
	require.ErrorContains(t, err, "no such file")
}

// The example of the specification, computed by its reference libraries.
func TestSignatureOfTheSpecification(t *testing.T) {
	secret, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	require.NoError(t, err)
	got := signatures([][]byte{secret}, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", got)
	require.Equal(t, got+" "+got, signatures([][]byte{secret, secret}, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`)))
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "soon": 0, "-3": 0, "30": 30 * time.Second, " 5 ": 5 * time.Second,
		"Sun, 01 Mar 2026 12:01:00 GMT": time.Minute, "Sun, 01 Mar 2026 11:00:00 GMT": 0, "99999999999999": 0,
	} {
		require.Equal(t, want, retryAfter(header, now), header)
	}
}

func TestJitterIsAtMostAFifth(t *testing.T) {
	for range 1000 {
		j := jitter(time.Minute)
		require.True(t, j >= 0 && j <= 12*time.Second, j)
	}
	require.Zero(t, jitter(0))
}
