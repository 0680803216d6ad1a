-- name: InsertContact :exec
INSERT INTO contact (tenant_id, id, party, recipient_code, certified_mail, external_id, vat_number, tax_code, search_name, create_time, update_time)
VALUES (@tenant_id, @id, @party, @recipient_code, @certified_mail, @external_id, @vat_number, @tax_code, @search_name, @create_time, @create_time);

-- name: GetContact :one
SELECT * FROM contact WHERE tenant_id = @tenant_id AND id = @id;

-- name: LockContact :one
SELECT * FROM contact WHERE tenant_id = @tenant_id AND id = @id FOR UPDATE;

-- name: FindContactByExternalID :one
SELECT id FROM contact WHERE tenant_id = @tenant_id AND external_id = @external_id;

-- Conditions that are null do not apply.
-- name: ListContacts :many
SELECT * FROM contact
WHERE tenant_id = @tenant_id AND id > @after
  AND (sqlc.narg(vat_number)::text IS NULL OR vat_number = sqlc.narg(vat_number))
  AND (sqlc.narg(tax_code)::text IS NULL OR tax_code = sqlc.narg(tax_code))
  AND (sqlc.narg(external_id)::text IS NULL OR external_id = sqlc.narg(external_id))
  AND (sqlc.narg(names)::text[] IS NULL OR search_name LIKE ALL (sqlc.narg(names)::text[]))
ORDER BY id LIMIT @page_size;

-- name: UpdateContact :exec
UPDATE contact SET party = @party, recipient_code = @recipient_code, certified_mail = @certified_mail, external_id = @external_id,
    vat_number = @vat_number, tax_code = @tax_code, search_name = @search_name, version = @version, update_time = @update_time
WHERE tenant_id = @tenant_id AND id = @id;

-- name: DeleteContact :exec
DELETE FROM contact WHERE tenant_id = @tenant_id AND id = @id;

-- name: InsertItem :exec
INSERT INTO item (tenant_id, id, line, external_id, search_description, create_time, update_time)
VALUES (@tenant_id, @id, @line, @external_id, @search_description, @create_time, @create_time);

-- name: GetItem :one
SELECT * FROM item WHERE tenant_id = @tenant_id AND id = @id;

-- name: LockItem :one
SELECT * FROM item WHERE tenant_id = @tenant_id AND id = @id FOR UPDATE;

-- name: FindItemByExternalID :one
SELECT id FROM item WHERE tenant_id = @tenant_id AND external_id = @external_id;

-- name: ListItems :many
SELECT * FROM item
WHERE tenant_id = @tenant_id AND id > @after
  AND (sqlc.narg(external_id)::text IS NULL OR external_id = sqlc.narg(external_id))
  AND (sqlc.narg(descriptions)::text[] IS NULL OR search_description LIKE ALL (sqlc.narg(descriptions)::text[]))
ORDER BY id LIMIT @page_size;

-- name: UpdateItem :exec
UPDATE item SET line = @line, external_id = @external_id, search_description = @search_description,
    version = @version, update_time = @update_time
WHERE tenant_id = @tenant_id AND id = @id;

-- name: DeleteItem :exec
DELETE FROM item WHERE tenant_id = @tenant_id AND id = @id;

-- name: GetLook :one
SELECT * FROM look WHERE tenant_id = @tenant_id AND company_id = @company_id;

-- Version 0 is the defaults: what the first change starts from, so that two first changes wait for each
-- other like any others.
-- name: InsertDefaultLook :exec
INSERT INTO look (tenant_id, company_id, logo, accent_color, language_code, version, update_time)
VALUES (@tenant_id, @company_id, '', '', '', 0, @update_time)
ON CONFLICT (tenant_id, company_id) DO NOTHING;

-- name: LockLook :one
SELECT * FROM look WHERE tenant_id = @tenant_id AND company_id = @company_id FOR UPDATE;

-- name: UpdateLook :exec
UPDATE look SET logo = @logo, accent_color = @accent_color, language_code = @language_code, version = @version, update_time = @update_time
WHERE tenant_id = @tenant_id AND company_id = @company_id;
