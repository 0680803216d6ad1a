-- Tiles are hashes: compressing them costs time and saves nothing. Metadata files are text, written with every
-- unit, and lz4 packs them in a fifth of the time of PostgreSQL's own method, where the server has it.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE log_tile ALTER COLUMN data SET STORAGE EXTERNAL;
-- +goose StatementBegin
DO $$
BEGIN
    ALTER TABLE unit_file ALTER COLUMN content SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'this server was built without lz4: compression stays as it is';
END $$;
-- +goose StatementEnd
