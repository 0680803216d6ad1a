-- What is left of an invoice that was destroyed: ids, digests, dates, its state, and by which disposal.
-- name: BuryInvoices :exec
UPDATE invoice SET destroyed_by = @destroyed_by, destroy_time = @destroy_time, update_time = @update_time, version = version + 1,
    request_id = '', external_id = '', recipient_code = '', number = '', bodies = '[]', warnings = '[]', rejections = '[]', failure = '', file_name = '',
    seller_vat_number = '', seller_tax_code = '', seller_name = '', buyer_vat_number = '', buyer_tax_code = '', buyer_name = ''
WHERE tenant_id = @tenant_id AND id = ANY(@ids::uuid[]) AND destroyed_by = '';

-- name: BuryDocuments :exec
UPDATE document SET file_name = '' WHERE tenant_id = @tenant_id AND invoice_id = ANY(@ids::uuid[]) AND file_name <> '';

-- Files of the batches that the invoices came with.
-- name: BuryBatchFiles :exec
UPDATE batch_file f SET file_name = '', external_id = '', message = '', violations = '[]'
FROM invoice i
WHERE i.tenant_id = @tenant_id AND i.id = ANY(@ids::uuid[]) AND i.batch_id IS NOT NULL
  AND f.tenant_id = i.tenant_id AND f.batch_id = i.batch_id AND f.invoice_id = i.id;

-- The log of the tenant keeps what happened and when; also that of received invoices, of which nothing else is here.
-- name: BuryEvents :exec
UPDATE event SET data = '{}' WHERE tenant_id = @tenant_id AND invoice_id = ANY(@ids::uuid[]) AND data <> '{}';

-- name: BuryWaitingEvents :exec
UPDATE event_waiting SET data = '{}' WHERE tenant_id = @tenant_id AND invoice_id = ANY(@ids::uuid[]) AND data <> '{}';
