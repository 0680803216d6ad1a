-- How persons authorize signatures: PIN and one-time password against a challenge. Nothing here lets
-- anybody find out a PIN, a password or an authorization: PINs are kept through argon2id and a MAC
-- whose key is in Vault, passwords through the same MAC, authorizations as SHA-256 of 256 random bits.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE credential DROP CONSTRAINT credential_kind_check;
ALTER TABLE credential ADD CONSTRAINT credential_kind_check CHECK (kind IN ('AUTOMATIC', 'ROLE', 'PERSON'));

-- The PIN of a credential and whose it is.
CREATE TABLE credential_pin (
    credential_id uuid        PRIMARY KEY REFERENCES credential (id),
    tenant_id     text        NOT NULL,
    holder        text        NOT NULL, -- tenants/{tenant}/users/{user}
    salt          bytea       NOT NULL CHECK (length(salt) = 16),
    -- argon2id parameters, so that they can be raised: what is set later gets the newer ones.
    memory_kib    integer     NOT NULL,
    passes        integer     NOT NULL,
    mac           bytea       NOT NULL CHECK (length(mac) = 32),
    version       integer     NOT NULL DEFAULT 1,
    set_at        timestamptz NOT NULL
);
ALTER TABLE credential_pin ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential_pin FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON credential_pin
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Wrong attempts, one row per credential and one per holder. An attempt is counted before it is
-- judged, so that attempts at the same time cannot be more than are allowed.
CREATE TABLE authentication_guard (
    tenant_id    text        NOT NULL,
    subject      text        NOT NULL, -- resource name of the credential or of the holder
    failures     integer     NOT NULL DEFAULT 0,
    allowed      integer     NOT NULL, -- failures in one window
    window_end   timestamptz NOT NULL,
    locks        integer     NOT NULL DEFAULT 0, -- since the last success: each lasts twice as long
    locked_until timestamptz,
    PRIMARY KEY (tenant_id, subject)
);
ALTER TABLE authentication_guard ENABLE ROW LEVEL SECURITY;
ALTER TABLE authentication_guard FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON authentication_guard
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE TABLE otp_device (
    id            uuid        PRIMARY KEY,
    tenant_id     text        NOT NULL,
    credential_id uuid        NOT NULL REFERENCES credential (id),
    type          text        NOT NULL CHECK (type IN ('TOTP')),
    display_name  text        NOT NULL,
    state         text        NOT NULL CHECK (state IN ('PENDING', 'ACTIVE', 'REMOVED')),
    replaces      uuid, -- the device that was active when the enrolment began
    created_at    timestamptz NOT NULL,
    confirmed_at  timestamptz,
    removed_at    timestamptz
);
CREATE UNIQUE INDEX otp_device_active ON otp_device (credential_id) WHERE state = 'ACTIVE';
CREATE UNIQUE INDEX otp_device_pending ON otp_device (credential_id) WHERE state = 'PENDING';
CREATE INDEX otp_device_list ON otp_device (credential_id, id);
ALTER TABLE otp_device ENABLE ROW LEVEL SECURITY;
ALTER TABLE otp_device FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON otp_device
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Passwords that were right once: they never are again. Vault remembers them in memory only, and
-- forgets them when it restarts. spec: RFC6238 §5.2
CREATE TABLE otp_spent (
    tenant_id text        NOT NULL,
    device_id uuid        NOT NULL REFERENCES otp_device (id),
    mac       bytea       NOT NULL CHECK (length(mac) = 32),
    spent_at  timestamptz NOT NULL,
    PRIMARY KEY (device_id, mac)
);
ALTER TABLE otp_spent ENABLE ROW LEVEL SECURITY;
ALTER TABLE otp_spent FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON otp_spent
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- What a person is asked to sign, and how far that went.
CREATE TABLE challenge (
    id            uuid        PRIMARY KEY,
    tenant_id     text        NOT NULL,
    credential_id uuid        NOT NULL REFERENCES credential (id),
    caller        text        NOT NULL, -- who made it: nobody else goes on with it
    hashes        bytea[]     NOT NULL CHECK (cardinality(hashes) BETWEEN 1 AND 500), -- sorted
    digest        bytea       NOT NULL CHECK (length(digest) = 32),
    state         text        NOT NULL CHECK (state IN ('OPEN', 'AUTHORIZED', 'SIGNING', 'SIGNED')),
    attempts      integer     NOT NULL DEFAULT 0,
    expires_at    timestamptz NOT NULL, -- of the next step
    device_id     uuid        REFERENCES otp_device (id),
    authorization_sha256 bytea CHECK (length(authorization_sha256) = 32),
    request_id    text, -- the one request that used the authorization
    -- In the order of hashes; the bytes are in the blob store.
    signed_sha256 bytea[],
    signed_sizes  bigint[],
    signing_time  timestamptz,
    created_at    timestamptz NOT NULL,
    authorized_at timestamptz,
    used_at       timestamptz,
    signed_at     timestamptz,
    CHECK (state = 'OPEN' OR (authorization_sha256 IS NOT NULL AND device_id IS NOT NULL AND authorized_at IS NOT NULL)),
    CHECK (state NOT IN ('SIGNING', 'SIGNED') OR (request_id IS NOT NULL AND used_at IS NOT NULL)),
    CHECK (state <> 'SIGNED' OR (cardinality(signed_sha256) = cardinality(hashes) AND cardinality(signed_sizes) = cardinality(hashes) AND signing_time IS NOT NULL))
);
CREATE INDEX challenge_credential ON challenge (credential_id, id);
ALTER TABLE challenge ENABLE ROW LEVEL SECURITY;
ALTER TABLE challenge FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON challenge
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
