-- +goose Up
-- Copies of destroyed documents that other services have in the platform's store: who has what, who needs it still, and what became
-- of it.
SET lock_timeout = '5s';

ALTER TABLE disposal_item
    -- FINDING: services are to say what they have; FOUND: all have; ASKING: they are to say what they need; CLEARED: the eraser may;
    -- DONE. Empty: not destroyed yet, or before copies were asked for.
    ADD COLUMN copies text NOT NULL DEFAULT '' CHECK (copies IN ('', 'FINDING', 'FOUND', 'ASKING', 'CLEARED', 'DONE')),
    ADD COLUMN parts integer NOT NULL DEFAULT 0, -- answers that each service owes
    ADD COLUMN round integer NOT NULL DEFAULT 0; -- of asking what is needed

ALTER TABLE disposal_object
    ADD COLUMN what text NOT NULL DEFAULT '',
    ADD COLUMN found_by text[] NOT NULL DEFAULT '{}', -- services
    -- Of blobs. Empty: to be asked for; ABSENT: was not there; CLEARED: nobody needs it; NEEDED: note says by whom.
    ADD COLUMN state text NOT NULL DEFAULT '' CHECK (state IN ('', 'ABSENT', 'CLEARED', 'NEEDED')),
    ADD COLUMN mark text NOT NULL DEFAULT '', -- how the bytes lay when it was asked for
    ADD COLUMN note text NOT NULL DEFAULT '';

CREATE TABLE disposal_answer (
    disposal_id uuid        NOT NULL,
    package_id  uuid        NOT NULL,
    tenant_id   text        NOT NULL,
    round       integer     NOT NULL, -- 0: what it has
    part        integer     NOT NULL,
    service     text        NOT NULL,
    answered_at timestamptz NOT NULL,
    PRIMARY KEY (disposal_id, package_id, round, part, service),
    FOREIGN KEY (disposal_id, package_id) REFERENCES disposal_item (disposal_id, package_id)
);
ALTER TABLE disposal_answer ENABLE ROW LEVEL SECURITY;
ALTER TABLE disposal_answer FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON disposal_answer
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE TABLE disposal_need (
    disposal_id uuid    NOT NULL,
    package_id  uuid    NOT NULL,
    tenant_id   text    NOT NULL,
    round       integer NOT NULL,
    key         text    NOT NULL,
    service     text    NOT NULL,
    others      bigint  NOT NULL CHECK (others > 0), -- documents that stand
    PRIMARY KEY (disposal_id, package_id, round, key, service),
    FOREIGN KEY (disposal_id, package_id) REFERENCES disposal_item (disposal_id, package_id)
);
ALTER TABLE disposal_need ENABLE ROW LEVEL SECURITY;
ALTER TABLE disposal_need FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON disposal_need
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Whether other documents have the same bytes.
CREATE INDEX unit_file_bytes ON unit_file USING hash (sha256);
