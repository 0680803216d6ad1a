package rpc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"ceralacca.dev/services/internal/fault"
)

// The tenant of a row is the one that pg.DB.Tx bound to the transaction. The
// insert waits for a concurrent transaction with the same key: when it returns
// no row, the other one has committed and its answer can be read.
const (
	onceInsert = `INSERT INTO request_log (tenant_id, method, request_id, request_hash, response)
VALUES (coalesce(current_setting('ceralacca.tenant', true), ''), $1, $2, $3, '')
ON CONFLICT (tenant_id, method, request_id) DO NOTHING`
	onceSelect = `SELECT request_hash, response FROM request_log
WHERE tenant_id = coalesce(current_setting('ceralacca.tenant', true), '') AND method = $1 AND request_id = $2`
	onceUpdate = `UPDATE request_log SET response = $3
WHERE tenant_id = coalesce(current_setting('ceralacca.tenant', true), '') AND method = $1 AND request_id = $2`
)

// Once runs fn at most once per tenant, method and request id (AIP-155). fn
// does its work in the transaction tx and fills resp; both are kept or lost
// together with the record of the request. A repeat with the same request gets
// the earlier response in resp without running fn; the same id with another
// request is Conflict REQUEST_ID_REUSED. Without a request id fn just runs.
func Once(ctx context.Context, tx pgx.Tx, method, requestID string, req, resp proto.Message, fn func() error) error {
	if requestID == "" {
		return fn()
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		return fmt.Errorf("rpc: marshal request of %s: %w", method, err)
	}
	hash := sha256.Sum256(body)
	tag, err := tx.Exec(ctx, onceInsert, method, requestID, hash[:])
	if err != nil {
		return fmt.Errorf("rpc: record request %s of %s: %w", requestID, method, err)
	}
	if tag.RowsAffected() == 0 {
		return earlier(ctx, tx, method, requestID, hash[:], resp)
	}
	if err := fn(); err != nil {
		return err
	}
	answer, err := proto.MarshalOptions{Deterministic: true}.Marshal(resp)
	if err != nil {
		return fmt.Errorf("rpc: marshal response of %s: %w", method, err)
	}
	if len(answer) == 0 {
		return nil // an empty message, as the row says already
	}
	if _, err := tx.Exec(ctx, onceUpdate, method, requestID, answer); err != nil {
		return fmt.Errorf("rpc: record response to %s of %s: %w", requestID, method, err)
	}
	return nil
}

func earlier(ctx context.Context, tx pgx.Tx, method, requestID string, hash []byte, resp proto.Message) error {
	var known, answer []byte
	err := tx.QueryRow(ctx, onceSelect, method, requestID).Scan(&known, &answer)
	if errors.Is(err, pgx.ErrNoRows) {
		// The row was there a moment ago and its retention ended just now.
		return fault.Aborted("REQUEST_ID_EXPIRED", "request_id %s is too old to be repeated: read the state, then use a new id", requestID)
	}
	if err != nil {
		return fmt.Errorf("rpc: read request %s of %s: %w", requestID, method, err)
	}
	if !bytes.Equal(known, hash) {
		return fault.Conflict("REQUEST_ID_REUSED",
			"request_id %s was used before with another request: use a new id for a new request", requestID).
			WithField("request_id", "REUSED", "belongs to an earlier, different request")
	}
	proto.Reset(resp)
	if err := proto.Unmarshal(answer, resp); err != nil {
		return fmt.Errorf("rpc: earlier response to %s of %s: %w", requestID, method, err)
	}
	return nil
}
