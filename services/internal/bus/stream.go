package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ceralacca.dev/proto/catalog"
)

// ApplyConfig says how streams are made.
type ApplyConfig struct {
	Replicas int           // default 1
	MaxAge   time.Duration // default 30 days
	// OnlyMissing leaves streams that exist as they are: what services do at start. `bus apply`
	// brings all of them to the configuration.
	OnlyMissing bool
}

// duplicateWindow is how far back JetStream itself recognises a repeated Nats-Msg-Id. A convenience:
// it spares consumers most repeats after a relay lost an acknowledgement.
const duplicateWindow = 2 * time.Minute

// Apply creates the streams of the catalogue, one per owner, in files.
func Apply(ctx context.Context, js jetstream.JetStream, cfg ApplyConfig) error {
	cfg.Replicas = orDefault(cfg.Replicas, 1)
	cfg.MaxAge = orDefault(cfg.MaxAge, 30*24*time.Hour)
	for _, s := range catalog.Streams() {
		err := applyStream(ctx, js, s, cfg)
		if err != nil {
			return fmt.Errorf("bus: stream %s: %w", s.Name, err)
		}
	}
	return nil
}

func applyStream(ctx context.Context, js jetstream.JetStream, s catalog.Stream, cfg ApplyConfig) error {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	if cfg.OnlyMissing {
		_, err := js.Stream(ctx, s.Name)
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
	}
	_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        s.Name,
		Description: "facts owned by one service; see the event catalogue",
		Subjects:    s.Subjects,
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardOld,
		MaxAge:      cfg.MaxAge,
		Duplicates:  min(duplicateWindow, cfg.MaxAge),
		Replicas:    cfg.Replicas,
	})
	return err
}
