package run

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// TestEmbeddedSyncs: the promise behind deleting outbox rows.
func TestEmbeddedSyncs(t *testing.T) {
	srv, err := startEmbedded(EmbeddedNATS{Dir: t.TempDir()}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer srv.Shutdown()
	require.True(t, srv.JetStreamConfig().SyncAlways)
	require.Nil(t, srv.Addr(), "it is not to be reached from outside the process")
}

func TestEmbeddedBadAddress(t *testing.T) {
	_, err := startEmbedded(EmbeddedNATS{Dir: t.TempDir(), Listen: "nowhere"}, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "nats.embedded.listen")
}

// BenchmarkEmbedded measures what syncing every message costs, with publishes
// in flight as the relay has them. Result of each policy: events per second.
func BenchmarkEmbedded(b *testing.B) {
	for _, always := range []bool{true, false} {
		for _, flight := range []int{1, 32, 256} {
			b.Run(fmt.Sprintf("always=%v/in-flight=%d", always, flight), func(b *testing.B) { benchEmbedded(b, always, flight) })
		}
	}
}

func benchEmbedded(b *testing.B, always bool, flight int) {
	opts, err := embeddedOptions(EmbeddedNATS{Dir: b.TempDir()})
	require.NoError(b, err)
	opts.SyncAlways = always
	srv, err := server.NewServer(opts)
	require.NoError(b, err)
	srv.Start()
	defer srv.Shutdown()
	require.True(b, srv.ReadyForConnections(10*time.Second))
	conn, err := nats.Connect("", nats.InProcessServer(srv))
	require.NoError(b, err)
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(1024))
	require.NoError(b, err)
	_, err = js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Storage: jetstream.FileStorage})
	require.NoError(b, err)
	payload := make([]byte, 400) // about what an event has
	b.ResetTimer()
	for n := 0; n < b.N; {
		var acks []jetstream.PubAckFuture
		for ; len(acks) < flight && n < b.N; n++ {
			ack, err := js.PublishAsync("s", payload)
			require.NoError(b, err)
			acks = append(acks, ack)
		}
		for _, ack := range acks {
			select {
			case <-ack.Ok():
			case err := <-ack.Err():
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
