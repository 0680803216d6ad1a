-- name: BuryTransmissions :many
-- What is left of the sending of an invoice that was destroyed: ids, digests, times, its state, and by which disposal. The name of
-- its file goes too: the series of names never gives one twice.
UPDATE transmission t
SET destroyed_by = @destroyed_by, destroy_time = @destroy_time, file_name = '', file_key = 'gone:' || t.id, last_error = '', held = '', updated_at = @now
FROM (SELECT o.id, o.file_name FROM transmission o WHERE o.tenant_id = @tenant_id AND o.invoice = ANY(@invoices::text[]) AND o.destroyed_by = '' ORDER BY o.id FOR UPDATE) was
WHERE t.id = was.id
RETURNING t.id, was.file_name, t.file_sha256;

-- name: BuryMessages :many
-- Nothing of SdI's messages about them but what they were and their digests.
UPDATE message m SET file_name = 'gone:' || m.id, raw = NULL, problem = ''
WHERE m.transmission_id = ANY(@transmissions::uuid[]) AND m.content_uri <> ''
RETURNING m.sha256;

-- name: BuryMailings :exec
-- The names of files that certified mail carried; other files of the same message keep theirs.
UPDATE pec_mailing m
SET file_names = ARRAY(SELECT n FROM unnest(m.file_names) n WHERE n <> ALL(@file_names::text[]))
WHERE m.id IN (SELECT f.mailing_id FROM pec_mailing_file f WHERE f.transmission_id = ANY(@transmissions::uuid[]));

-- name: BuryInboundFiles :many
UPDATE inbound_file f
SET destroyed_by = @destroyed_by, destroy_time = @destroy_time, file_name = 'gone:' || f.id, metadata_name = '', reason = '', recipient_code = '',
    seller_name = '', seller_vat = '', seller_tax = '', buyer_name = '', buyer_vat = '', buyer_tax = '', updated_at = @now
FROM (SELECT o.id, o.file_name FROM inbound_file o WHERE o.id = ANY(@ids::uuid[]) AND o.tenant_id = @tenant_id AND o.destroyed_by = '' ORDER BY o.id FOR UPDATE) was
WHERE f.id = was.id
RETURNING f.id, f.sdi_id, was.file_name, f.sha256;

-- name: BuryInboundBodies :exec
UPDATE inbound_body SET number = '', currency = '', total = '' WHERE file_id = ANY(@ids::uuid[]);

-- name: BuryInboundDeliveries :exec
UPDATE inbound_delivery SET metadata_name = '', problem = '' WHERE file_id = ANY(@ids::uuid[]);

-- name: BuryInboundOutcomes :exec
UPDATE inbound_outcome SET description = '', content = '', message = '', file_name = 'gone:' || id WHERE file_id = ANY(@ids::uuid[]);

-- name: BuryInboundNotices :many
UPDATE inbound_notice SET file_name = 'gone:' || id, raw = '', problem = '' WHERE file_id = ANY(@ids::uuid[]) RETURNING sha256;

-- name: BuryArrivals :exec
-- Certified mail that brought such a file, or that was destroyed itself.
UPDATE pec_arrival
SET sender = '', doubts = '', problem = '', file_names = '{}'
WHERE tenant_id = @tenant_id AND (message = ANY(@messages::text[]) OR (@sdi_ids::text[] <> '{}' AND sdi_ids <> '{}' AND sdi_ids && @sdi_ids::text[]));

-- name: BuryMailingsOf :exec
UPDATE pec_mailing SET file_names = '{}', message_id = '', problem = '' WHERE tenant_id = @tenant_id AND message = ANY(@messages::text[]);

-- name: BurySupportDifferences :exec
-- What lists of supports said about such documents.
DELETE FROM support_difference d USING support_document s WHERE s.sha256 = ANY(@sums::bytea[]) AND d.name = s.file_name;

-- name: BurySupportDocuments :exec
UPDATE support_document SET raw = '', file_name = 'gone:' || id, file_key = '', problem = '' WHERE sha256 = ANY(@sums::bytea[]) AND handed_at IS NOT NULL;
