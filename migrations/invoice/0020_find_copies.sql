-- +goose Up
-- Which invoices need bytes of the platform's store: asked before copies of destroyed ones are erased.
SET lock_timeout = '5s';

CREATE INDEX document_bytes ON document USING hash (uri);
CREATE INDEX batch_file_bytes ON batch_file USING hash (uri) WHERE uri <> '';
CREATE INDEX batch_part_bytes ON batch_part USING hash (uri);
