-- No row: a batch of this id is there.
-- name: InsertBatch :execrows
INSERT INTO batch (tenant_id, id, company_id, kind, display_name, state, create_time, update_time)
VALUES (@tenant_id, @id, @company_id, @kind, @display_name, @state, @now, @now)
ON CONFLICT (tenant_id, id) DO NOTHING;

-- name: GetBatch :one
SELECT * FROM batch WHERE tenant_id = @tenant_id AND id = @id;

-- name: LockBatch :one
SELECT * FROM batch WHERE tenant_id = @tenant_id AND id = @id FOR UPDATE;

-- Newest first.
-- name: ListBatches :many
SELECT * FROM batch
WHERE tenant_id = @tenant_id
  AND (sqlc.narg(company_id)::text IS NULL OR company_id = sqlc.narg(company_id))
  AND (sqlc.narg(before_seq)::bigint IS NULL OR seq < sqlc.narg(before_seq))
ORDER BY seq DESC LIMIT @page_size;

-- name: InsertBatchFiles :exec
INSERT INTO batch_file (tenant_id, batch_id, idx, file_name, size, external_id, uri, place, state, code, message)
SELECT @tenant_id::text, @batch_id::uuid, unnest(@idxs::bigint[]), unnest(@file_names::text[]), unnest(@sizes::bigint[]),
       unnest(@external_ids::text[]), unnest(@uris::text[]), unnest(@places::integer[]), unnest(@states::smallint[]),
       unnest(@codes::text[]), unnest(@messages::text[]);

-- Counts what came in. No row: another upload of the batch came first, or it is not open any more.
-- name: ReceiveFiles :execrows
UPDATE batch SET received_files = received_files + @added, received_bytes = received_bytes + @bytes,
    files = files + @added, working = true, update_time = @now
WHERE tenant_id = @tenant_id AND id = @id AND state = @uploading AND NOT archive AND received_files = @before;

-- name: InsertBatchPart :exec
INSERT INTO batch_part (tenant_id, batch_id, start, size, uri) VALUES (@tenant_id, @batch_id, @start, @size, @uri)
ON CONFLICT (tenant_id, batch_id, start) DO NOTHING;

-- name: ReceivePart :execrows
UPDATE batch SET archive = true, received_bytes = received_bytes + @bytes, update_time = @now
WHERE tenant_id = @tenant_id AND id = @id AND state = @uploading AND received_files = 0 AND received_bytes = @before;

-- name: ListBatchParts :many
SELECT start, size, uri FROM batch_part WHERE tenant_id = @tenant_id AND batch_id = @batch_id ORDER BY start;

-- name: SetBatchState :exec
UPDATE batch SET state = @state, failure = @failure, working = @working, update_time = @now
WHERE tenant_id = @tenant_id AND id = @id;

-- Conditions that are null do not apply.
-- name: ListBatchFiles :many
SELECT * FROM batch_file
WHERE tenant_id = @tenant_id AND batch_id = @batch_id AND idx >= @from_idx
  AND (sqlc.narg(state)::smallint IS NULL OR state = sqlc.narg(state))
ORDER BY idx LIMIT @page_size;

-- name: CancelBatchFiles :execrows
UPDATE batch_file SET state = @cancelled, message = @message
WHERE tenant_id = @tenant_id AND batch_id = @batch_id AND state = @waiting;

-- Writes outcomes of files that still wait; fewer rows than asked: somebody cancelled the batch.
-- name: SettleBatchFiles :execrows
UPDATE batch_file f SET state = u.state, invoice_id = nullif(u.invoice_id, '00000000-0000-0000-0000-000000000000'),
    invoice_company = u.company, code = u.code, message = u.message, violations = u.violations
FROM (SELECT unnest(@idxs::bigint[]) AS idx, unnest(@states::smallint[]) AS state, unnest(@invoice_ids::uuid[]) AS invoice_id,
             unnest(@companies::text[]) AS company, unnest(@codes::text[]) AS code, unnest(@messages::text[]) AS message,
             unnest(@violations::jsonb[]) AS violations) u
WHERE f.tenant_id = @tenant_id AND f.batch_id = @batch_id AND f.idx = u.idx AND f.state = @waiting;

-- name: CountBatchFiles :exec
UPDATE batch SET files = files + @files, created = created + @created, refused = refused + @refused, duplicates = duplicates + @duplicates,
    cancelled = cancelled + @cancelled, ignored = ignored + @ignored, update_time = @now
WHERE tenant_id = @tenant_id AND id = @id;

-- Which of these numbers are held, by whom.
-- name: FindHolders :many
SELECT h.issuer, h.fiscal_year, h.series, h.number, i.id, i.company_id, i.state
FROM held_number h JOIN invoice i ON i.tenant_id = h.tenant_id AND i.id = h.invoice_id
WHERE h.tenant_id = @tenant_id
  AND (h.issuer, h.fiscal_year, h.series, h.number) IN (
      SELECT k.i, k.y, k.s, k.n FROM (
          SELECT unnest(@issuers::text[]) AS i, unnest(@years::smallint[]) AS y, unnest(@series::text[]) AS s, unnest(@numbers::text[]) AS n) k);

-- Takes numbers for many invoices at once, and tells for which invoices how many were free.
-- name: TakeNumbers :many
WITH taken AS (
    INSERT INTO held_number (tenant_id, issuer, fiscal_year, series, number, invoice_id)
    SELECT @tenant_id::text, k.i, k.y, k.s, k.n, k.v FROM (
        SELECT unnest(@issuers::text[]) AS i, unnest(@years::smallint[]) AS y, unnest(@series::text[]) AS s,
               unnest(@numbers::text[]) AS n, unnest(@invoice_ids::uuid[]) AS v) k
    ORDER BY k.i, k.y, k.s, k.n
    ON CONFLICT DO NOTHING
    RETURNING invoice_id
)
SELECT invoice_id, count(*)::bigint AS n FROM taken GROUP BY invoice_id;

-- name: GiveNumbersBack :exec
DELETE FROM held_number WHERE tenant_id = @tenant_id AND invoice_id = ANY(@invoice_ids::uuid[]);

-- Many invoices with their originals and the first lines of their logs; their numbers are taken already.
-- name: InsertInvoices :exec
WITH fresh AS (
    INSERT INTO invoice (tenant_id, id, company_id, facts, state, settled, request_id, request_hash, external_id, format,
        recipient_code, number, issue_date, bodies, seller_vat_number, seller_tax_code, seller_name,
        buyer_vat_number, buyer_tax_code, buyer_name, warnings, file_name, transmitted_uri, transmitted_type,
        trace_id, create_time, update_time, batch_id)
    SELECT @tenant_id::text, u.id, @company_id::text, u.facts, @state::smallint, u.settled, u.request_id, u.request_hash, u.external_id, u.format,
        u.recipient_code, u.number, CAST(u.issue_date AS date), u.bodies, u.seller_vat_number, u.seller_tax_code, u.seller_name,
        u.buyer_vat_number, u.buyer_tax_code, u.buyer_name, u.warnings, u.file_name, u.transmitted_uri, u.transmitted_type,
        u.trace_id, @create_time::timestamptz, @create_time::timestamptz, sqlc.narg(batch_id)::uuid
    FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@facts::integer[]) AS facts, unnest(@settled::boolean[]) AS settled,
                 unnest(@request_ids::text[]) AS request_id, unnest(@request_hashes::bytea[]) AS request_hash,
                 unnest(@external_ids::text[]) AS external_id, unnest(@formats::text[]) AS format,
                 unnest(@recipient_codes::text[]) AS recipient_code, unnest(@numbers::text[]) AS number,
                 unnest(@issue_dates::text[]) AS issue_date, unnest(@bodies::jsonb[]) AS bodies,
                 unnest(@seller_vat_numbers::text[]) AS seller_vat_number, unnest(@seller_tax_codes::text[]) AS seller_tax_code,
                 unnest(@seller_names::text[]) AS seller_name, unnest(@buyer_vat_numbers::text[]) AS buyer_vat_number,
                 unnest(@buyer_tax_codes::text[]) AS buyer_tax_code, unnest(@buyer_names::text[]) AS buyer_name,
                 unnest(@warnings::jsonb[]) AS warnings, unnest(@file_names::text[]) AS file_name,
                 unnest(@transmitted_uris::text[]) AS transmitted_uri, unnest(@transmitted_types::text[]) AS transmitted_type, unnest(@trace_ids::text[]) AS trace_id) u
), originals AS (
    INSERT INTO document (tenant_id, invoice_id, id, kind, receipt_type, file_name, media_type, uri, create_time)
    SELECT @tenant_id::text, unnest(@ids::uuid[]), 'original', @original_kind::smallint, '', unnest(@own_names::text[]), unnest(@media_types::text[]), unnest(@uris::text[]), @create_time::timestamptz
)
INSERT INTO event_waiting (tenant_id, id, type, time, company_id, invoice_id, data, trace_id)
SELECT @tenant_id::text, unnest(@event_ids::uuid[]), @event_type::text, @create_time::timestamptz, @company_id::text, unnest(@ids::uuid[]),
       unnest(@event_data::jsonb[]), unnest(@trace_ids::text[]);
