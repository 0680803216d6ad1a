-- A receipt that is not proven any more counts until a person strikes it out. The row of its fact stays and says who did so, and why.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE fact
    ADD COLUMN struck_time   timestamptz,
    ADD COLUMN struck_by     text NOT NULL DEFAULT '',
    ADD COLUMN struck_reason text NOT NULL DEFAULT '';
