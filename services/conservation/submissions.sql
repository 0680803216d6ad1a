-- name: UnreportedTenants :many
-- Tenants whose chain has leaves in a checkpoint that are in no submission yet.
SELECT t.tenant_id FROM log_tenant t
LEFT JOIN submission_cursor c ON c.tenant_id = t.tenant_id
WHERE t.tenant_id > @after::text AND EXISTS (
    SELECT 1 FROM log_leaf l WHERE l.tenant_id = t.tenant_id AND l.sequence = COALESCE(c.sequence, 0) + 1 AND l.idx < @size::bigint)
ORDER BY t.tenant_id LIMIT @page;

-- name: BeginSubmissions :exec
INSERT INTO submission_cursor (tenant_id, sequence) VALUES (@tenant_id, 0) ON CONFLICT DO NOTHING;

-- name: LockSubmissions :one
SELECT sequence FROM submission_cursor WHERE tenant_id = @tenant_id FOR UPDATE;

-- name: SetSubmissions :exec
UPDATE submission_cursor SET sequence = @sequence WHERE tenant_id = @tenant_id;

-- name: ChainOf :many
-- Leaves of a tenant after one, with the units that they tell of; came says that a unit came by event.
SELECT l.idx, l.tenant_id, l.sequence, l.subject_id, l.revision, l.entry, l.settled_at, u.id AS unit_id, COALESCE(u.class, '')::text AS class,
    COALESCE(u.fiscal_year, 0)::int AS fiscal_year, u.created_at AS taken_at,
    (u.id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM deposit d WHERE d.unit_id = u.id))::bool AS came
FROM log_leaf l LEFT JOIN unit u ON u.id = l.subject_id
WHERE l.tenant_id = @tenant_id AND l.sequence > @after AND l.sequence <= @last AND l.idx < @size::bigint
ORDER BY l.sequence LIMIT @page;

-- name: InsertSubmission :exec
INSERT INTO submission (id, tenant_id, first_sequence, last_sequence, unit_count, fiscal_year, years, created_at)
VALUES (@id, @tenant_id, @first_sequence, @last_sequence, @unit_count, @fiscal_year, @years, @created_at);

-- name: GetSubmission :one
SELECT * FROM submission WHERE tenant_id = @tenant_id AND id = @id;

-- name: SubmissionAt :one
-- The submission that has a place of the chain.
SELECT * FROM submission WHERE tenant_id = @tenant_id AND last_sequence >= @sequence ORDER BY last_sequence LIMIT 1;

-- name: ListSubmissions :many
SELECT id, tenant_id, first_sequence, last_sequence, unit_count, created_at, stamped_at FROM submission
WHERE tenant_id = @tenant_id AND id < @before ORDER BY id DESC LIMIT @page;

-- name: SetSubmissionReport :execrows
UPDATE submission SET report = @report, stamp = @stamp, stamped_at = @at, report_id = sqlc.narg('report_object'), stamp_id = sqlc.narg('stamp_object'), written = NULL, unstamped = NULL
WHERE id = @id AND report IS NULL;

-- name: KeepWrittenSubmission :one
-- The report as it was written first; no row: it is made already.
UPDATE submission SET written = COALESCE(written, @content::bytea) WHERE id = @id AND report IS NULL RETURNING written;

-- name: KeepUnstampedSubmission :exec
UPDATE submission SET unstamped = @signed WHERE id = @id AND report IS NULL AND unstamped IS NULL;

-- name: GoodCopies :many
SELECT object_id, count(*) AS copies FROM archive_copy WHERE object_id = ANY(@objects::uuid[]) AND state = 'GOOD' GROUP BY object_id;

-- name: DepositOfUnit :one
SELECT * FROM deposit WHERE unit_id = @unit AND state = 'ACCEPTED' ORDER BY id LIMIT 1;

-- name: ReportedSubmissions :many
SELECT id, report, stamp, report_id, stamp_id FROM submission WHERE tenant_id = @tenant_id AND report IS NOT NULL ORDER BY id;

-- name: SetStatementMail :exec
INSERT INTO statement_mail (tenant_id, mailbox, address) VALUES (@tenant_id, @mailbox, @address)
ON CONFLICT (tenant_id) DO UPDATE SET mailbox = excluded.mailbox, address = excluded.address, trouble = '';

-- name: DropStatementMail :exec
DELETE FROM statement_mail WHERE tenant_id = @tenant_id;

-- name: GetStatementMail :one
SELECT tenant_id, mailbox, address, sent_size, sent_at, request_id, trouble FROM statement_mail WHERE tenant_id = @tenant_id;

-- name: StatementMails :many
SELECT tenant_id, mailbox, address, sent_size, sent_at, request_id, trouble FROM statement_mail WHERE tenant_id = ANY(@tenants::text[]) AND sent_size < @size::bigint;

-- name: SetStatementSent :exec
UPDATE statement_mail SET sent_size = @size, sent_at = @at, request_id = @request, trouble = '' WHERE tenant_id = @tenant_id;

-- name: SetStatementTrouble :execrows
UPDATE statement_mail SET trouble = @trouble WHERE tenant_id = @tenant_id AND request_id = @request;
