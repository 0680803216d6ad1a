package nats

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

func start(t *testing.T, o Options) *Server {
	t.Helper()
	o.Progress = os.Stderr
	s, err := Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	return s
}

func stream(t *testing.T, s *Server) natsgo.JetStreamContext {
	t.Helper()
	conn, err := natsgo.Connect(s.URL())
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := conn.JetStream()
	require.NoError(t, err)
	return js
}

func TestStreamsSurviveKillAndRestart(t *testing.T) {
	s := start(t, Options{Dir: filepath.Join(t.TempDir(), "nats")})
	js := stream(t, s)
	_, err := js.AddStream(&natsgo.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: natsgo.FileStorage})
	require.NoError(t, err)
	_, err = js.Publish("s.one", []byte("kept"))
	require.NoError(t, err)

	address, pid := s.URL(), s.PID()
	require.NoError(t, s.Kill())
	_, err = natsgo.Connect(address, natsgo.NoReconnect())
	require.Error(t, err)
	require.NoError(t, s.Restart(t.Context()))
	require.Equal(t, address, s.URL(), "a restart keeps the address")
	require.NotEqual(t, pid, s.PID())
	info, err := stream(t, s).StreamInfo("S")
	require.NoError(t, err)
	require.EqualValues(t, 1, info.State.Msgs)
}

func TestPauseFreezesAndStopStillWorks(t *testing.T) {
	s := start(t, Options{Dir: filepath.Join(t.TempDir(), "nats")})
	require.NoError(t, s.Pause())
	_, err := natsgo.Connect(s.URL(), natsgo.NoReconnect(), natsgo.Timeout(300*time.Millisecond))
	require.Error(t, err)
	require.NoError(t, s.Resume())
	conn, err := natsgo.Connect(s.URL())
	require.NoError(t, err)
	conn.Close()
	require.NoError(t, s.Pause())
	require.NoError(t, s.Stop())
	require.ErrorContains(t, s.Pause(), "not running")
}

func TestFolderIsAskedFor(t *testing.T) {
	_, err := Start(t.Context(), Options{})
	require.ErrorContains(t, err, "Options.Dir is empty")
}
