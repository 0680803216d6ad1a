-- What supports of SdI bring to those who receive, and the answers that supports of ours carry.

-- name: WaitingDocuments :many
SELECT id, type, file_name, file_key FROM support_document
WHERE support_id = @support_id AND handed_at IS NULL AND type <> '' AND id > @after
ORDER BY id LIMIT @n;

-- name: FindDocument :one
-- The other half of a pair, in the same support or in another.
SELECT id, file_name FROM support_document
WHERE file_key = @file_key AND type = @type AND handed_at IS NULL
ORDER BY (support_id = @support_id) DESC, id LIMIT 1;

-- name: ReadDocument :one
SELECT d.id, d.file_name, d.raw, s.created_at AS arrived_at
FROM support_document d JOIN support s ON s.id = d.support_id
WHERE d.id = @id AND d.handed_at IS NULL;

-- name: HandDocuments :execrows
-- The bytes lie with who received them, and in the support.
UPDATE support_document SET handed_at = @now, raw = '', problem = @problem WHERE id = ANY(@ids::uuid[]) AND handed_at IS NULL;

-- name: SetDocumentProblem :exec
UPDATE support_document SET problem = @problem WHERE id = @id AND handed_at IS NULL;

-- name: KnownInboundFile :one
-- A file that came before under this identifier.
SELECT file_name, file_uri FROM inbound_file WHERE sdi_id = @sdi_id AND sdi_id <> '' AND upper(file_name) = @file_key ORDER BY id LIMIT 1;

-- name: NameInboundFile :exec
-- A file that came without metadata gets its identifier from those that came later.
UPDATE inbound_file f SET sdi_id = @sdi_id
WHERE f.sdi_id = '' AND f.file_name = @file_name AND f.sha256 = @sha256 AND f.state IN ('TAKEN', 'QUARANTINED')
  AND NOT EXISTS (SELECT 1 FROM inbound_file o WHERE o.sdi_id = @sdi_id AND o.file_name = @file_name AND o.sha256 = @sha256);

-- name: WaitingAnswers :many
SELECT o.id, o.created_at, o.tenant_id, f.answer_by, f.expired_at
FROM inbound_outcome o JOIN inbound_file f ON f.id = o.file_id
WHERE o.channel = 'SDIFTP' AND o.support_id IS NULL AND o.state = 'PENDING'
ORDER BY o.created_at, o.id LIMIT @n;

-- name: BindAnswers :many
UPDATE inbound_outcome SET support_id = @support_id
WHERE id = ANY(@ids::uuid[]) AND support_id IS NULL AND state = 'PENDING'
RETURNING id, tenant_id;

-- name: InsertSupportOutcomes :exec
INSERT INTO support_outcome (support_id, outcome_id, tenant_id)
SELECT @support_id, unnest(@outcome_ids::uuid[]), unnest(@tenant_ids::text[]);

-- name: SupportAnswers :many
SELECT o.id, o.tenant_id, o.file_id, o.file_name, o.content, o.state
FROM support_outcome s JOIN inbound_outcome o ON o.id = s.outcome_id
WHERE s.support_id = @support_id ORDER BY o.id;

-- name: CountAnswerAttempts :exec
UPDATE inbound_outcome SET attempts = attempts + 1, attempt_at = @now WHERE support_id = @support_id AND state = 'PENDING';

-- name: FreeAnswers :execrows
-- The support is known to have left nothing at SdI.
UPDATE inbound_outcome SET support_id = NULL, attempts = greatest(attempts - 1, 0), attempt_at = NULL, message = @message
WHERE support_id = @support_id AND state = 'PENDING';

-- name: AnswersAbout :many
-- The outcomes that a refusal of SdI may be about: of the file of an identifier, newest first.
SELECT o.id, o.tenant_id, o.position, o.state, b.number
FROM inbound_file f JOIN inbound_outcome o ON o.file_id = f.id
LEFT JOIN inbound_body b ON b.file_id = o.file_id AND b.position = o.position
WHERE f.sdi_id = @sdi_id AND f.sdi_id <> '' AND f.tenant_id <> ''
ORDER BY o.id DESC;

-- name: SupportsLeft :many
-- Supports of SdI of which something waits to be handed on.
SELECT DISTINCT support_id FROM support_document WHERE handed_at IS NULL AND type <> '' ORDER BY support_id LIMIT @n;
