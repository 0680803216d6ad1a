-- One-time passwords that are sent: by text message and by e-mail.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE otp_device DROP CONSTRAINT otp_device_type_check;
ALTER TABLE otp_device ADD CONSTRAINT otp_device_type_check CHECK (type IN ('TOTP', 'SMS', 'EMAIL'));
-- Where passwords are sent; '' for an app.
ALTER TABLE otp_device ADD COLUMN address text NOT NULL DEFAULT '';

-- The password that was sent last to a device. Only a MAC of it is here, under a key that never leaves
-- Vault; it is good for what it was sent for and for nothing else.
CREATE TABLE otp_message (
    device_id  uuid        PRIMARY KEY REFERENCES otp_device (id),
    tenant_id  text        NOT NULL,
    binding    uuid        NOT NULL, -- the challenge; all zeroes: for the device and the PIN themselves
    mac        bytea       NOT NULL CHECK (length(mac) = 32),
    tries      integer     NOT NULL DEFAULT 0,
    sent_at    timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    day        text        NOT NULL, -- YYYY-MM-DD, UTC, of sent_today
    sent_today integer     NOT NULL
);
ALTER TABLE otp_message ENABLE ROW LEVEL SECURITY;
ALTER TABLE otp_message FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON otp_message
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
