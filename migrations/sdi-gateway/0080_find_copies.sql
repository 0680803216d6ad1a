-- +goose Up
-- Which sendings and received files need bytes of the platform's store, and which messages came in which support: asked before copies
-- of destroyed documents are erased.
SET lock_timeout = '5s';

-- Messages of SdI that a support brought; other documents of supports are in support_document.
CREATE TABLE support_message (
    support_id uuid  NOT NULL REFERENCES support (id),
    sha256     bytea NOT NULL CHECK (octet_length(sha256) = 32),
    PRIMARY KEY (support_id, sha256)
);
CREATE INDEX support_message_bytes ON support_message USING hash (sha256);
ALTER TABLE support_message ENABLE ROW LEVEL SECURITY;
ALTER TABLE support_message FORCE ROW LEVEL SECURITY;
CREATE POLICY system_only ON support_message
    USING (current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (current_setting('ceralacca.scope', true) = 'system');

CREATE INDEX transmission_bytes ON transmission USING hash (file_uri);
CREATE INDEX message_bytes ON message USING hash (content_uri) WHERE content_uri <> '';
CREATE INDEX message_sha256 ON message USING hash (sha256);
CREATE INDEX inbound_file_bytes ON inbound_file USING hash (file_uri);
CREATE INDEX inbound_file_sha256 ON inbound_file USING hash (sha256);
CREATE INDEX inbound_file_metadata ON inbound_file USING hash (metadata_uri) WHERE metadata_uri <> '';
CREATE INDEX support_bytes ON support USING hash (file_uri) WHERE file_uri <> '';
