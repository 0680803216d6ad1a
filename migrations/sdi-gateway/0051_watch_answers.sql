-- The term in which a public body answers: what its tenant was told of it.

-- +goose Up
SET lock_timeout = '5s';

-- 0 nothing, 1 that it is near, 2 that it has passed.
ALTER TABLE inbound_file ADD COLUMN due_told smallint NOT NULL DEFAULT 0;
CREATE INDEX inbound_file_due ON inbound_file (answer_by, id) WHERE state = 'AWAITING_OUTCOME';
-- What supports brought and nobody has taken, for operators who look again.
CREATE INDEX support_document_left ON support_document (support_id) WHERE handed_at IS NULL;
