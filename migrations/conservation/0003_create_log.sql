-- Tamper evidence: the common append-only log of what was taken in charge and sealed.

-- +goose Up
SET lock_timeout = '5s';

-- Facts that wait for their place in the log. Triggers write it, so that nothing is taken in charge without
-- its leaf, whichever version of the service writes the unit.
CREATE TABLE log_pending (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  text   NOT NULL,
    kind       text   NOT NULL CHECK (kind IN ('unit', 'package')),
    subject_id uuid   NOT NULL
);
ALTER TABLE log_pending ENABLE ROW LEVEL SECURITY;
ALTER TABLE log_pending FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON log_pending
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- The key that hides a tenant in the leaves. Destroying it makes them nobody's.
CREATE TABLE log_tenant (
    tenant_id text  PRIMARY KEY,
    tag_key   bytea NOT NULL CHECK (length(tag_key) = 32)
);
ALTER TABLE log_tenant ENABLE ROW LEVEL SECURITY;
ALTER TABLE log_tenant FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON log_tenant
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- The settled order of the log. A row is the promise that its entry stands at that place: tiles and
-- checkpoints are made from these rows and can be made again, with the same bytes.
CREATE TABLE log_leaf (
    idx        bigint      PRIMARY KEY CHECK (idx >= 0),
    tenant_id  text        NOT NULL,
    sequence   bigint      NOT NULL CHECK (sequence > 0),
    subject_id uuid        NOT NULL,
    revision   integer     NOT NULL CHECK (revision > 0), -- 1 taken in charge or sealed; later receipts count on
    entry      bytea       NOT NULL,
    settled_at timestamptz NOT NULL,
    CONSTRAINT log_leaf_gapless UNIQUE (tenant_id, sequence),
    CONSTRAINT log_leaf_once UNIQUE (subject_id, revision)
);
ALTER TABLE log_leaf ENABLE ROW LEVEL SECURITY;
ALTER TABLE log_leaf FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON log_leaf
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Tiles and bundles by their path in tlog-tiles. Written once; a partial one goes when the full one is there.
CREATE TABLE log_tile (
    path text COLLATE "C" PRIMARY KEY,
    data bytea NOT NULL
);

-- What the log has stated. Of all tenants: size and root tell nothing of one.
CREATE TABLE log_checkpoint (
    size       bigint      PRIMARY KEY CHECK (size > 0),
    note       bytea       NOT NULL, -- signed
    signed_at  timestamptz NOT NULL,
    stamp      bytea,                -- RFC 3161 token over the text of the note
    stamp_time timestamptz,
    stamp_by   text        NOT NULL DEFAULT '',
    CHECK ((stamp IS NULL) = (stamp_time IS NULL))
);
CREATE INDEX log_checkpoint_stamped ON log_checkpoint (size) WHERE stamp IS NOT NULL;

-- +goose StatementBegin
CREATE FUNCTION log_units() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log_pending (tenant_id, kind, subject_id)
    SELECT tenant_id, 'unit', id FROM fresh WHERE state <> 'REFUSED' ORDER BY id;
    RETURN NULL;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION log_subject() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log_pending (tenant_id, kind, subject_id) VALUES (NEW.tenant_id, TG_ARGV[0], NEW.id);
    RETURN NULL;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION log_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the log is append-only: % of % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;
-- +goose StatementEnd

CREATE TRIGGER unit_taken AFTER INSERT ON unit REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION log_units();
-- Facts change when later receipts join a unit that is in no package yet.
CREATE TRIGGER unit_extended AFTER UPDATE OF facts ON unit FOR EACH ROW EXECUTE FUNCTION log_subject('unit');
CREATE TRIGGER package_sealed AFTER UPDATE OF state ON package FOR EACH ROW
    WHEN (NEW.state = 'SEALED' AND OLD.state <> 'SEALED') EXECUTE FUNCTION log_subject('package');
CREATE TRIGGER log_leaf_kept BEFORE UPDATE OR DELETE ON log_leaf FOR EACH ROW EXECUTE FUNCTION log_refuse_change();

-- What is in custody already enters the log now.
SELECT set_config('ceralacca.scope', 'system', true);
INSERT INTO log_pending (tenant_id, kind, subject_id) SELECT tenant_id, 'unit', id FROM unit WHERE state <> 'REFUSED' ORDER BY id;
INSERT INTO log_pending (tenant_id, kind, subject_id) SELECT tenant_id, 'package', id FROM package WHERE state = 'SEALED' ORDER BY id;
SELECT set_config('ceralacca.scope', '', true);
