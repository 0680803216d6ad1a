-- A transmission is updated three times within seconds of its birth. The room left on its page keeps those
-- updates that change no indexed column out of the indexes.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE transmission SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
