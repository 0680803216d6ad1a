-- Push approval, hardware tokens, what holders are told, and the life of a credential after its first
-- certificate. No seed, number, password or private key is here: seeds are in Vault, numbers are MACs
-- under a key in Vault, of an app there is the public key.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE credential DROP CONSTRAINT credential_state_check;
ALTER TABLE credential ADD CONSTRAINT credential_state_check CHECK (state IN ('PENDING_CERTIFICATE', 'ACTIVE', 'SUSPENDED', 'REVOKED'));

ALTER TABLE otp_device DROP CONSTRAINT otp_device_type_check;
ALTER TABLE otp_device ADD CONSTRAINT otp_device_type_check CHECK (type IN ('TOTP', 'SMS', 'EMAIL', 'PUSH', 'TOKEN'));

-- The public key of an app that approves: ECDSA P-256, SubjectPublicKeyInfo, DER. The private one never left the telephone.
CREATE TABLE push_key (
    device_id  uuid  PRIMARY KEY REFERENCES otp_device (id),
    tenant_id  text  NOT NULL,
    public_key bytea NOT NULL
);
ALTER TABLE push_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE push_key FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON push_key
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- One question to an app. It is answered once, and an approval is used once.
CREATE TABLE push_request (
    id            uuid        PRIMARY KEY,
    tenant_id     text        NOT NULL,
    credential_id uuid        NOT NULL REFERENCES credential (id),
    device_id     uuid        NOT NULL REFERENCES otp_device (id),
    binding       uuid        NOT NULL, -- the challenge; all zeroes: for the device and the PIN themselves
    number_mac    bytea       NOT NULL CHECK (length(number_mac) = 32),
    hashes        bytea[]     NOT NULL, -- of the challenge; empty for the device and the PIN
    digest        bytea       NOT NULL,
    state         text        NOT NULL CHECK (state IN ('PENDING', 'APPROVED', 'REFUSED', 'WRONG_NUMBER', 'SUPERSEDED', 'USED')),
    signature     bytea, -- of the app, over the answer: what an auditor verifies
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    answered_at   timestamptz,
    used_at       timestamptz,
    CHECK (state IN ('PENDING', 'SUPERSEDED') OR (signature IS NOT NULL AND answered_at IS NOT NULL))
);
CREATE UNIQUE INDEX push_request_pending ON push_request (device_id) WHERE state = 'PENDING';
CREATE INDEX push_request_list ON push_request (device_id, id);
ALTER TABLE push_request ENABLE ROW LEVEL SECURITY;
ALTER TABLE push_request FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON push_request
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- A hardware token (RFC 4226, RFC 6238). Its seed is a key of the transit engine at the mount for tokens, by the id.
CREATE TABLE oath_token (
    id          uuid        PRIMARY KEY,
    tenant_id   text        NOT NULL,
    serial      text        NOT NULL,
    kind        text        NOT NULL CHECK (kind IN ('TOTP', 'HOTP')),
    algorithm   text        NOT NULL CHECK (algorithm IN ('SHA1', 'SHA256', 'SHA512')),
    digits      integer     NOT NULL CHECK (digits IN (6, 8)),
    period      integer     NOT NULL CHECK (period BETWEEN 1 AND 300), -- seconds; of HOTP it means nothing
    -- The first counter (of TOTP: time step) whose code was not accepted yet. It only grows: no code is accepted twice.
    counter     bigint      NOT NULL CHECK (counter >= 0),
    drift       integer     NOT NULL DEFAULT 0, -- steps that the token's clock is ahead of ours
    device_id   uuid        REFERENCES otp_device (id), -- whose device it is, or was last
    imported_at timestamptz NOT NULL,
    retired_at  timestamptz,
    CONSTRAINT oath_token_serial UNIQUE (tenant_id, serial)
);
CREATE UNIQUE INDEX oath_token_device ON oath_token (device_id);
ALTER TABLE oath_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE oath_token FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON oath_token
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- A device that took another one's place without a password of it may not be used before.
CREATE TABLE otp_device_cooling (
    device_id   uuid        PRIMARY KEY REFERENCES otp_device (id),
    tenant_id   text        NOT NULL,
    usable_from timestamptz NOT NULL
);
ALTER TABLE otp_device_cooling ENABLE ROW LEVEL SECURITY;
ALTER TABLE otp_device_cooling FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON otp_device_cooling
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Where the holder is told of each use. Addresses are as they are: they are needed for every notice.
CREATE TABLE holder_contact (
    credential_id uuid        PRIMARY KEY REFERENCES credential (id),
    tenant_id     text        NOT NULL,
    email         text        NOT NULL DEFAULT '',
    phone         text        NOT NULL DEFAULT '',
    updated_at    timestamptz NOT NULL,
    CHECK (email <> '' OR phone <> '')
);
ALTER TABLE holder_contact ENABLE ROW LEVEL SECURITY;
ALTER TABLE holder_contact FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON holder_contact
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Why a credential is suspended, and since when.
CREATE TABLE credential_suspension (
    credential_id uuid        PRIMARY KEY REFERENCES credential (id),
    tenant_id     text        NOT NULL,
    reason        text        NOT NULL,
    suspended_at  timestamptz NOT NULL
);
ALTER TABLE credential_suspension ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential_suspension FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON credential_suspension
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- A certificate request for a credential that has a certificate: for the same version of its key or a new one.
CREATE TABLE credential_renewal (
    credential_id uuid        PRIMARY KEY REFERENCES credential (id),
    tenant_id     text        NOT NULL,
    key_version   integer     NOT NULL CHECK (key_version > 0),
    public_key    bytea       NOT NULL,
    csr_pem       text        NOT NULL,
    created_at    timestamptz NOT NULL
);
ALTER TABLE credential_renewal ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential_renewal FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON credential_renewal
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Every certificate that a credential had, has, or will have once it is valid.
CREATE TABLE credential_certificate (
    id            uuid        PRIMARY KEY,
    tenant_id     text        NOT NULL,
    credential_id uuid        NOT NULL REFERENCES credential (id),
    key_version   integer     NOT NULL CHECK (key_version > 0),
    public_key    bytea       NOT NULL,
    csr_pem       text        NOT NULL,
    chain         bytea[]     NOT NULL CHECK (cardinality(chain) > 0),
    not_before    timestamptz NOT NULL,
    not_after     timestamptz NOT NULL,
    imported_at   timestamptz NOT NULL,
    used_from     timestamptz, -- when it became the one that signs; null: it waits for not_before, or was overtaken
    dropped_at    timestamptz  -- another one that waits took its place
);
CREATE INDEX credential_certificate_list ON credential_certificate (credential_id, imported_at);
CREATE UNIQUE INDEX credential_certificate_next ON credential_certificate (credential_id) WHERE used_from IS NULL AND dropped_at IS NULL;
ALTER TABLE credential_certificate ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential_certificate FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON credential_certificate
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Warnings that a certificate expires: each once.
CREATE TABLE credential_warning (
    tenant_id     text        NOT NULL,
    credential_id uuid        NOT NULL REFERENCES credential (id),
    not_after     timestamptz NOT NULL,
    days          integer     NOT NULL,
    warned_at     timestamptz NOT NULL,
    PRIMARY KEY (credential_id, not_after, days)
);
ALTER TABLE credential_warning ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential_warning FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON credential_warning
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
