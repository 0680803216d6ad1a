-- +goose Up
-- Approvals are dropped by their end alone, of all credentials at once.
SET lock_timeout = '5s';

DROP INDEX csc_approval_credential;
CREATE INDEX csc_approval_end ON csc_approval (expires_at);
