-- +goose Up
-- How long documents are kept, what holds them, and how they are destroyed.
SET lock_timeout = '5s';

CREATE TABLE retention_rule (
    tenant_id text    NOT NULL,
    class     text    NOT NULL,
    years     integer NOT NULL CHECK (years BETWEEN 1 AND 100),
    PRIMARY KEY (tenant_id, class)
);
ALTER TABLE retention_rule ENABLE ROW LEVEL SECURITY;
ALTER TABLE retention_rule FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON retention_rule
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

ALTER TABLE package ADD COLUMN retain_until timestamptz; -- NULL: ten years, as it was when it was closed
ALTER TABLE package ADD COLUMN disposal_id uuid;
ALTER TABLE package ADD COLUMN destroyed_at timestamptz;
ALTER TABLE package DROP CONSTRAINT package_state_check;
ALTER TABLE package ADD CONSTRAINT package_state_check CHECK (state IN ('CLOSED', 'INDEXED', 'SIGNED', 'STAMPED', 'SEALED', 'ERASING', 'DESTROYED')) NOT VALID;
ALTER TABLE package VALIDATE CONSTRAINT package_state_check;
CREATE INDEX package_destroyed ON package (tenant_id, fiscal_year) WHERE state IN ('ERASING', 'DESTROYED');
ALTER TABLE unit DROP CONSTRAINT unit_state_check;
ALTER TABLE unit ADD CONSTRAINT unit_state_check CHECK (state IN ('TAKEN_IN_CHARGE', 'ASSIGNED', 'PRESERVED', 'REFUSED', 'DESTROYED')) NOT VALID;
ALTER TABLE unit VALIDATE CONSTRAINT unit_state_check;

CREATE TABLE hold (
    id          uuid        PRIMARY KEY,
    tenant_id   text        NOT NULL,
    unit_id     uuid,
    package_id  uuid,
    fiscal_year integer     NOT NULL DEFAULT 0, -- 0: any
    class       text        NOT NULL DEFAULT '', -- empty: any
    reason      text        NOT NULL CHECK (reason <> ''),
    set_by      text        NOT NULL,
    set_at      timestamptz NOT NULL,
    lifted_by   text        NOT NULL DEFAULT '',
    lift_reason text        NOT NULL DEFAULT '',
    lifted_at   timestamptz,
    CHECK (unit_id IS NULL OR package_id IS NULL)
);
CREATE INDEX hold_list ON hold (tenant_id, id);
CREATE INDEX hold_active ON hold (tenant_id) WHERE lifted_at IS NULL;
ALTER TABLE hold ENABLE ROW LEVEL SECURITY;
ALTER TABLE hold FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON hold
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE TABLE disposal (
    id             uuid        PRIMARY KEY,
    tenant_id      text        NOT NULL,
    state          text        NOT NULL CHECK (state IN ('PROPOSED', 'AUTHORIZED', 'RELEASED_ONCE', 'RELEASED', 'PARTIAL', 'COMPLETE', 'WITHDRAWN')),
    needs_authority boolean    NOT NULL, -- the Soprintendenza's authorisation
    proposed_by    text        NOT NULL,
    proposed_at    timestamptz NOT NULL,
    producer       jsonb,
    soprintendenza jsonb,
    authorized_by  text        NOT NULL DEFAULT '',
    authorized_at  timestamptz,
    first_by       text        NOT NULL DEFAULT '', -- the account, and the person's name
    first_person   text        NOT NULL DEFAULT '',
    second_by      text        NOT NULL DEFAULT '',
    second_person  text        NOT NULL DEFAULT '',
    released_at    timestamptz,
    ended_at       timestamptz,
    last_error     text        NOT NULL DEFAULT '',
    completed_by   text        NOT NULL DEFAULT '',
    completion     text        NOT NULL DEFAULT '',
    report         bytea, -- JSON; its signed form is the object
    report_id      uuid,
    CHECK (second_by = '' OR second_by <> first_by),
    CHECK (state NOT IN ('RELEASED', 'PARTIAL', 'COMPLETE') OR (first_by <> '' AND second_by <> '' AND producer IS NOT NULL AND (NOT needs_authority OR soprintendenza IS NOT NULL)))
);
CREATE INDEX disposal_list ON disposal (tenant_id, id);
CREATE INDEX disposal_under_way ON disposal (id) WHERE state = 'RELEASED';
ALTER TABLE disposal ENABLE ROW LEVEL SECURITY;
ALTER TABLE disposal FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON disposal
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE TABLE disposal_item (
    disposal_id    uuid        NOT NULL REFERENCES disposal (id),
    package_id     uuid        NOT NULL REFERENCES package (id),
    tenant_id      text        NOT NULL,
    state          text        NOT NULL CHECK (state IN ('LISTED', 'AUTHORIZED', 'KEPT', 'ERASING', 'ERASED', 'DESTROYED')),
    note           text        NOT NULL DEFAULT '',
    retained_until timestamptz NOT NULL,
    sha256         bytea       NOT NULL, -- of the package's ZIP
    unit_count     integer     NOT NULL,
    begun_at       timestamptz,
    erased_at      timestamptz,
    PRIMARY KEY (disposal_id, package_id)
);
CREATE UNIQUE INDEX disposal_item_once ON disposal_item (package_id) WHERE state IN ('LISTED', 'AUTHORIZED', 'ERASING', 'ERASED', 'DESTROYED');
ALTER TABLE disposal_item ENABLE ROW LEVEL SECURITY;
ALTER TABLE disposal_item FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON disposal_item
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- What has to be gone from every replica and store before a package counts as erased.
CREATE TABLE disposal_object (
    disposal_id uuid   NOT NULL,
    package_id  uuid   NOT NULL,
    tenant_id   text   NOT NULL,
    kind        text   NOT NULL CHECK (kind IN ('object', 'blob')),
    key         text   NOT NULL, -- in the replicas; of a blob its SHA-256 in hex
    sha256      bytea  NOT NULL CHECK (length(sha256) = 32),
    size        bigint NOT NULL,
    gone        boolean NOT NULL DEFAULT false,
    PRIMARY KEY (disposal_id, package_id, kind, key),
    FOREIGN KEY (disposal_id, package_id) REFERENCES disposal_item (disposal_id, package_id)
);
ALTER TABLE disposal_object ENABLE ROW LEVEL SECURITY;
ALTER TABLE disposal_object FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON disposal_object
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
