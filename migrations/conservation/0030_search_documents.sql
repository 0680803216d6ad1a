-- Search over what is in custody. All of it can be made again from packages: nothing here is the truth.

-- +goose Up
SET lock_timeout = '5s';

-- Who stands in documents, each once per tenant: its id is made from what it is.
CREATE TABLE search_party (
    id        uuid PRIMARY KEY,
    tenant_id text NOT NULL
);
ALTER TABLE search_party ENABLE ROW LEVEL SECURITY;
ALTER TABLE search_party FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON search_party
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- A party's name, folded, from each of its words to its end: what is looked for begins one of them. Its numbers too, behind
-- =v (VAT) and =c (tax code). Only ranges of "C" text are compared: row-level security lets these into an index condition,
-- and no operators of patterns or full text.
CREATE TABLE search_word (
    tenant_id text NOT NULL,
    word      text COLLATE "C" NOT NULL,
    party_id  uuid NOT NULL REFERENCES search_party (id),
    PRIMARY KEY (tenant_id, word, party_id)
);
ALTER TABLE search_word ENABLE ROW LEVEL SECURITY;
ALTER TABLE search_word FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON search_word
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- One row for each document: a file with several bodies has several.
CREATE TABLE search_entry (
    unit_id       uuid    NOT NULL REFERENCES unit (id),
    body          integer NOT NULL CHECK (body > 0),
    tenant_id     text    NOT NULL,
    issued_on     date    NOT NULL,
    fiscal_year   integer NOT NULL,
    class         text    NOT NULL,
    state         text    NOT NULL, -- what SdI said last
    document_type text    NOT NULL,
    number        text COLLATE "C" NOT NULL, -- folded, like the names of files
    sdi_id        text    NOT NULL,
    file_name     text COLLATE "C" NOT NULL,
    seller        uuid    NOT NULL,
    buyer         uuid    NOT NULL,
    PRIMARY KEY (unit_id, body)
);
CREATE INDEX search_entry_date ON search_entry (tenant_id, issued_on, unit_id, body);
CREATE INDEX search_entry_seller ON search_entry (tenant_id, seller, issued_on, unit_id, body);
CREATE INDEX search_entry_buyer ON search_entry (tenant_id, buyer, issued_on, unit_id, body);
CREATE INDEX search_entry_number ON search_entry (tenant_id, number);
CREATE INDEX search_entry_sdi ON search_entry (tenant_id, sdi_id);
CREATE INDEX search_entry_file ON search_entry (tenant_id, file_name);
CREATE INDEX search_entry_year ON search_entry (tenant_id, fiscal_year, issued_on, unit_id, body);
CREATE INDEX search_entry_type ON search_entry (tenant_id, document_type, issued_on, unit_id, body);
CREATE INDEX search_entry_state ON search_entry (tenant_id, state, class, issued_on, unit_id, body);
ALTER TABLE search_entry ENABLE ROW LEVEL SECURITY;
ALTER TABLE search_entry FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON search_entry
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- What was in custody before there was a search: the service enters it when it starts.
CREATE TABLE search_owed (
    unit_id   uuid PRIMARY KEY REFERENCES unit (id),
    tenant_id text NOT NULL
);
ALTER TABLE search_owed ENABLE ROW LEVEL SECURITY;
ALTER TABLE search_owed FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON search_owed
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
SELECT set_config('ceralacca.scope', 'system', true);
INSERT INTO search_owed (unit_id, tenant_id) SELECT id, tenant_id FROM unit WHERE state <> 'REFUSED';
SELECT set_config('ceralacca.scope', '', true);
