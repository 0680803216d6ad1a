-- +goose Up
-- Of a file that was made for a row of signature: for which, by which credential, with which signing time. A process that died
-- between storing it and recording it has left it in the store, and the next run records it instead of signing anew.
SET lock_timeout = '5s';

ALTER TABLE made_file
    ADD COLUMN signature_id  uuid,
    ADD COLUMN credential_id uuid,
    ADD COLUMN signing_time  timestamptz,
    ADD CONSTRAINT made_file_recordable CHECK (num_nulls(signature_id, credential_id, signing_time) IN (0, 3));
