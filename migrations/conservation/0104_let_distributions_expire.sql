-- +goose Up
-- A distribution may have a term: after it the eraser takes its bytes, and the row keeps what it was, with its digest.
SET lock_timeout = '5s';

ALTER TABLE distribution DROP CONSTRAINT distribution_state_check, DROP CONSTRAINT distribution_check;
ALTER TABLE distribution
    ADD CONSTRAINT distribution_state_check CHECK (state IN ('BUILDING', 'READY', 'FAILED', 'EXPIRED')),
    ADD CONSTRAINT distribution_check CHECK ((state IN ('READY', 'EXPIRED')) = (sha256 IS NOT NULL));
CREATE INDEX distribution_ready ON distribution (ready_at) WHERE state = 'READY';
