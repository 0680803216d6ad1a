-- A name that many bear is not looked up: documents are gone through in order, and of each party the search asks
-- whether it bears the name.

-- +goose Up
SET lock_timeout = '5s';

CREATE INDEX search_word_party ON search_word (tenant_id, party_id, word);
