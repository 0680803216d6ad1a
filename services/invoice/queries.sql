-- The invoice, its original, the numbers that it holds and the first line of its log, in one
-- statement. No row: the request_id was used before. Unique violation of held_number_pkey: the number
-- is taken.
-- name: InsertInvoice :one
WITH fresh AS (
    INSERT INTO invoice (tenant_id, id, company_id, facts, state, request_id, request_hash, external_id, format,
        recipient_code, number, issue_date, bodies, seller_vat_number, seller_tax_code, seller_name,
        buyer_vat_number, buyer_tax_code, buyer_name, warnings, trace_id, create_time, update_time, corrects)
    VALUES (@tenant_id, @id, @company_id, 0, @state, @request_id, @request_hash, @external_id, @format,
        @recipient_code, @number, CAST(@issue_date::text AS date), @bodies, @seller_vat_number, @seller_tax_code, @seller_name,
        @buyer_vat_number, @buyer_tax_code, @buyer_name, @warnings, @trace_id, @create_time, @create_time, sqlc.narg(corrects)::uuid)
    ON CONFLICT (tenant_id, request_id) WHERE request_id <> '' DO NOTHING
    RETURNING tenant_id, id, company_id, create_time
), numbers AS (
    INSERT INTO held_number (tenant_id, issuer, fiscal_year, series, number, invoice_id)
    SELECT f.tenant_id, unnest(@issuers::text[]), unnest(@years::smallint[]), unnest(@series::text[]), unnest(@numbers::text[]), f.id
    FROM fresh f
), original AS (
    INSERT INTO document (tenant_id, invoice_id, id, kind, receipt_type, file_name, media_type, uri, create_time)
    SELECT f.tenant_id, f.id, 'original', @original_kind, '', '', @media_type, @uri, f.create_time FROM fresh f
), logged AS (
    INSERT INTO event_waiting (tenant_id, id, type, time, company_id, invoice_id, data, trace_id)
    SELECT f.tenant_id, @event_id, @event_type, f.create_time, f.company_id, f.id, @event_data, @trace_id FROM fresh f
)
SELECT id FROM fresh;

-- name: FindByRequest :one
SELECT * FROM invoice WHERE tenant_id = @tenant_id AND request_id = @request_id;

-- name: KnownRequests :many
SELECT request_id FROM invoice WHERE tenant_id = @tenant_id AND request_id = ANY(@request_ids::text[]) AND request_id <> '';

-- name: FindHolder :one
SELECT i.id, i.company_id, i.state, i.sdi_id, h.number
FROM held_number h JOIN invoice i ON i.tenant_id = h.tenant_id AND i.id = h.invoice_id
WHERE h.tenant_id = @tenant_id
  AND (h.issuer, h.fiscal_year, h.series, h.number) IN (
      SELECT k.i, k.y, k.s, k.n FROM (
          SELECT unnest(@issuers::text[]) AS i, unnest(@years::smallint[]) AS y, unnest(@series::text[]) AS s, unnest(@numbers::text[]) AS n) k)
LIMIT 1;

-- name: GetInvoice :one
SELECT * FROM invoice WHERE tenant_id = @tenant_id AND id = @id;

-- name: ListDocuments :many
SELECT invoice_id, id, kind, receipt_type, file_name, media_type, uri, create_time FROM document
WHERE tenant_id = @tenant_id AND invoice_id = ANY(@invoice_ids::uuid[])
ORDER BY invoice_id, create_time, id;

-- name: GetDocument :one
SELECT d.id, d.kind, d.receipt_type, d.file_name, d.media_type, d.uri, d.create_time, i.file_name AS sent_name, i.destroyed_by, i.destroy_time
FROM document d JOIN invoice i ON i.tenant_id = d.tenant_id AND i.id = d.invoice_id
WHERE d.tenant_id = @tenant_id AND d.invoice_id = @invoice_id AND d.id = @id AND i.company_id = @company_id;

-- Newest first: ids are UUIDv7. Conditions that are null do not apply.
-- name: ListInvoices :many
SELECT * FROM invoice
WHERE tenant_id = @tenant_id
  AND (sqlc.narg(company_id)::text IS NULL OR company_id = sqlc.narg(company_id))
  AND (sqlc.narg(before_id)::uuid IS NULL OR id < sqlc.narg(before_id))
  AND (sqlc.narg(states)::smallint[] IS NULL OR state = ANY(sqlc.narg(states)::smallint[]))
  AND (sqlc.narg(number)::text IS NULL OR number = sqlc.narg(number))
  AND (sqlc.narg(issued_from)::text IS NULL OR issue_date >= CAST(sqlc.narg(issued_from)::text AS date))
  AND (sqlc.narg(issued_to)::text IS NULL OR issue_date <= CAST(sqlc.narg(issued_to)::text AS date))
  AND (sqlc.narg(sdi_id)::text IS NULL OR sdi_id = sqlc.narg(sdi_id))
  AND (sqlc.narg(file_name)::text IS NULL OR file_name <> '' AND upper(file_name) = upper(sqlc.narg(file_name)))
  AND (sqlc.narg(external_id)::text IS NULL OR external_id = sqlc.narg(external_id))
  AND (sqlc.narg(buyer_vat_number)::text IS NULL OR buyer_vat_number = sqlc.narg(buyer_vat_number))
  AND (sqlc.narg(created_from)::timestamptz IS NULL OR create_time >= sqlc.narg(created_from))
  AND (sqlc.narg(created_to)::timestamptz IS NULL OR create_time <= sqlc.narg(created_to))
  AND (NOT @standing::boolean OR destroyed_by = '')
ORDER BY id DESC LIMIT @page_size;

-- In the order of ids, whoever asks: two transactions that hold the same invoices never wait for each
-- other in a circle. No condition on the tenant, here and in UpdateInvoices: row-level security has it,
-- and written out it tempts the planner to walk through all invoices of the tenant.
-- name: LockInvoices :many
SELECT * FROM invoice WHERE id = ANY(@ids::uuid[]) ORDER BY id FOR UPDATE;

-- name: UpdateInvoices :exec
UPDATE invoice i SET
    facts = u.facts, state = u.state, settled = u.settled, version = i.version + 1, update_time = u.update_time,
    rejections = u.rejections, failure = u.failure, file_name = u.file_name, sdi_id = u.sdi_id,
    transmitted_uri = u.transmitted_uri, transmitted_type = u.transmitted_type,
    preserve_time = nullif(u.preserve_time, '-infinity'), package = u.package
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@facts::integer[]) AS facts, unnest(@states::smallint[]) AS state,
             unnest(@settled::boolean[]) AS settled, unnest(@update_times::timestamptz[]) AS update_time,
             unnest(@rejections::jsonb[]) AS rejections, unnest(@failures::text[]) AS failure,
             unnest(@file_names::text[]) AS file_name, unnest(@sdi_ids::text[]) AS sdi_id,
             unnest(@transmitted_uris::text[]) AS transmitted_uri, unnest(@transmitted_types::text[]) AS transmitted_type,
             CAST(unnest(@preserve_times::text[]) AS timestamptz) AS preserve_time, unnest(@packages::text[]) AS package) u
WHERE i.id = u.id;

-- name: InsertDocuments :exec
INSERT INTO document (tenant_id, invoice_id, id, kind, receipt_type, file_name, media_type, uri, create_time)
SELECT @tenant_id::text, unnest(@invoice_ids::uuid[]), unnest(@ids::text[]), unnest(@kinds::smallint[]), unnest(@receipt_types::text[]),
       unnest(@file_names::text[]), unnest(@media_types::text[]), unnest(@uris::text[]), unnest(@create_times::timestamptz[])
ON CONFLICT (tenant_id, invoice_id, id) DO NOTHING;

-- name: InsertEvents :exec
INSERT INTO event_waiting (tenant_id, id, type, time, company_id, invoice_id, data, trace_id)
SELECT @tenant_id::text, unnest(@ids::uuid[]), unnest(@types::text[]), unnest(@times::timestamptz[]), unnest(@company_ids::text[]),
       unnest(@invoice_ids::uuid[]), unnest(@data::jsonb[]), unnest(@trace_ids::text[]);

-- name: ReleaseNumbers :exec
DELETE FROM held_number h USING (
    SELECT unnest(@issuers::text[]) AS issuer, unnest(@years::smallint[]) AS y, unnest(@series::text[]) AS s, unnest(@numbers::text[]) AS n) k
WHERE h.tenant_id = @tenant_id AND h.issuer = k.issuer AND h.fiscal_year = k.y AND h.series = k.s AND h.number = k.n
  AND h.invoice_id = ANY(@invoice_ids::uuid[]);

-- One sequencer at a time in this schema; the lock goes with the transaction.
-- name: LockSequencer :exec
SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.sequencer', 0));

-- Gives positions to what is committed. Runs under LockSequencer, in a snapshot taken after it: what
-- becomes visible later gets later positions.
-- name: Sequence :one
WITH batch AS (
    DELETE FROM event_waiting WHERE seq IN (SELECT w.seq FROM event_waiting w ORDER BY w.seq LIMIT @batch_size)
    RETURNING seq, tenant_id, id, type, time, company_id, invoice_id, data, trace_id
), counts AS (
    SELECT tenant_id, count(*) AS n FROM batch GROUP BY tenant_id
), heads AS (
    INSERT INTO event_head AS h (tenant_id, position) SELECT c.tenant_id, c.n FROM counts c
    ON CONFLICT (tenant_id) DO UPDATE SET position = h.position + excluded.position
    RETURNING h.tenant_id, h.position
), placed AS (
    INSERT INTO event (tenant_id, position, id, type, time, company_id, invoice_id, data, trace_id)
    SELECT b.tenant_id, h.position - c.n + row_number() OVER (PARTITION BY b.tenant_id ORDER BY b.seq),
           b.id, b.type, b.time, b.company_id, b.invoice_id, b.data, b.trace_id
    FROM batch b JOIN heads h ON h.tenant_id = b.tenant_id JOIN counts c ON c.tenant_id = b.tenant_id
)
SELECT coalesce(sum(n), 0)::bigint AS moved, coalesce(array_agg(tenant_id), '{}')::text[] AS tenants FROM counts;

-- name: NotifyEvents :exec
SELECT pg_notify(@channel::text, t) FROM unnest(@tenants::text[]) AS t;

-- name: ListEvents :many
SELECT position, id, type, time, company_id, invoice_id, data, trace_id FROM event
WHERE tenant_id = @tenant_id AND position > @after
  AND (sqlc.narg(invoice_id)::uuid IS NULL OR invoice_id = sqlc.narg(invoice_id))
  AND (sqlc.narg(type)::text IS NULL OR type = sqlc.narg(type))
ORDER BY position LIMIT @page_size;

-- name: EventHead :one
SELECT coalesce((SELECT position FROM event_head WHERE tenant_id = @tenant_id), 0)::bigint;
