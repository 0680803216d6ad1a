package bus

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/internal/pg"
)

const (
	// inboxSlack is how much longer the inbox remembers than streams keep: an event may wait in an
	// outbox before it enters its stream.
	inboxSlack = 7 * 24 * time.Hour
	// requestsKept is how long a request_id is remembered. spec: AIP-155; the house promises 24 h
	requestsKept = 7 * 24 * time.Hour
	retainChunk  = 5000
)

// retain deletes what no longer serves, a chunk at a time, on the relay's connection. Event ids are
// UUIDv7, so old inbox rows are one range at the start of the primary key.
func (b *Bus) retain(ctx context.Context, conn *pgx.Conn) error {
	now := b.now()
	for {
		tag, err := conn.Exec(ctx, `
			DELETE FROM inbox WHERE (event_id, consumer) IN (
			    SELECT event_id, consumer FROM inbox WHERE event_id < $1 ORDER BY event_id LIMIT $2)`,
			firstID(now.Add(-b.cfg.MaxAge-inboxSlack)), retainChunk)
		if err != nil {
			return pg.Error(err)
		}
		if tag.RowsAffected() < retainChunk {
			break
		}
	}
	_, err := conn.Exec(ctx, `DELETE FROM request_log WHERE created_at < $1`, now.Add(-requestsKept))
	return pg.Error(err)
}

// firstID is the smallest UUIDv7 of the millisecond t. spec: RFC 9562 §5.7
func firstID(t time.Time) uuid.UUID {
	var id uuid.UUID
	ms := max(t.UnixMilli(), 0)
	binary.BigEndian.PutUint64(id[:8], uint64(ms)<<16) //nolint:gosec // not negative
	id[6] = 0x70
	id[8] = 0x80
	return id
}

// foreignID names a message that carries no id of ours by its place in its stream, so that each
// delivery of it has the same id.
func foreignID(stream string, sequence uint64) uuid.UUID {
	var seq [8]byte
	binary.BigEndian.PutUint64(seq[:], sequence)
	return uuid.NewSHA1(foreignSpace, append([]byte(stream+"\x00"), seq[:]...))
}

var foreignSpace = uuid.MustParse("6f9b2a52-6f53-4b3e-9a0d-0b7f0c7f4d11")
