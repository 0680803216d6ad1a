-- +goose Up
-- What lies in the archive's objects and no row of a file leads to.
SET lock_timeout = '5s';

-- Documents whose bytes an object holds, and whose files lie elsewhere: what was moved out of it stays in it for as long as it is there, such as
-- when the package is held for which it was moved; and what a restore found in it. Who destroys such a document destroys the object.
CREATE TABLE bytes_left (
    object_id uuid NOT NULL REFERENCES archive_object (id) ON DELETE CASCADE,
    unit_id   uuid NOT NULL REFERENCES unit (id),
    tenant_id text NOT NULL,
    PRIMARY KEY (object_id, unit_id)
);
CREATE INDEX bytes_left_unit ON bytes_left (unit_id);
ALTER TABLE bytes_left ENABLE ROW LEVEL SECURITY;
ALTER TABLE bytes_left FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON bytes_left
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- What the eraser still has to destroy, also of disposals that it was done with when it came to light.
CREATE INDEX disposal_object_open ON disposal_object (tenant_id, key) WHERE kind = 'object' AND NOT gone;
