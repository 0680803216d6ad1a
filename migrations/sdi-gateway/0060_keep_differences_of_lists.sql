-- Differences are found in lists that operators bring too, and not in supports alone.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE support_difference
    ALTER COLUMN support_id DROP NOT NULL,
    -- What the list was called; empty for those of supports.
    ADD COLUMN source text NOT NULL DEFAULT '';
