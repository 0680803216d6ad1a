-- +goose Up
-- Approvals in an app that a client of the CSC API waits for. First the number that the client shows is promised to it; then, with
-- PIN and digests, the app is asked, and the client has a handle until the answer is there. Of the PIN the verdict alone is kept: it
-- is told together with that of the app, and as one.
SET lock_timeout = '5s';

CREATE TABLE csc_approval (
    id            uuid        PRIMARY KEY, -- of the question to the app
    tenant_id     text        NOT NULL,
    credential_id uuid        NOT NULL REFERENCES credential (id),
    caller        text        NOT NULL,
    number_mac    bytea       NOT NULL CHECK (length(number_mac) = 32),
    expires_at    timestamptz NOT NULL,
    -- Once the app is asked.
    challenge_id  uuid        REFERENCES challenge (id),
    handle_sha256 bytea       UNIQUE CHECK (length(handle_sha256) = 32),
    pin_right     boolean,
    pin_version   integer,
    otp_mac       bytea,
    CHECK (num_nulls(challenge_id, handle_sha256, pin_right, pin_version, otp_mac) IN (0, 5))
);
CREATE UNIQUE INDEX csc_approval_promised ON csc_approval (credential_id, caller) WHERE handle_sha256 IS NULL;
CREATE INDEX csc_approval_credential ON csc_approval (credential_id, expires_at);
ALTER TABLE csc_approval ENABLE ROW LEVEL SECURITY;
ALTER TABLE csc_approval FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON csc_approval
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
