-- name: InsertReseller :exec
INSERT INTO reseller (id, display_name, create_time) VALUES (@id, @display_name, @create_time);

-- name: GetReseller :one
SELECT id, display_name, create_time, version, suspend_time, suspend_reason, suspend_actor FROM reseller WHERE id = @id;

-- name: LockReseller :one
SELECT id, display_name, create_time, version, suspend_time, suspend_reason, suspend_actor FROM reseller WHERE id = @id FOR UPDATE;

-- name: ListResellers :many
SELECT id, display_name, create_time, version, suspend_time, suspend_reason, suspend_actor FROM reseller
WHERE id > @after ORDER BY id LIMIT @page_size;

-- name: SetResellerSuspension :exec
UPDATE reseller SET version = @version, suspend_time = sqlc.narg(suspend_time), suspend_reason = @suspend_reason, suspend_actor = @suspend_actor
WHERE id = @id;

-- name: InsertTenant :exec
INSERT INTO tenant (tenant_id, reseller_id, display_name, create_time)
VALUES (@tenant_id, @reseller_id, @display_name, @create_time);

-- name: GetTenant :one
SELECT sqlc.embed(tenant), sqlc.embed(reseller) FROM tenant JOIN reseller ON reseller.id = tenant.reseller_id
WHERE tenant.tenant_id = @tenant_id;

-- name: LockTenant :one
SELECT sqlc.embed(tenant), sqlc.embed(reseller) FROM tenant JOIN reseller ON reseller.id = tenant.reseller_id
WHERE tenant.tenant_id = @tenant_id FOR UPDATE OF tenant;

-- State: 0 all, 1 active, 2 suspended.
-- name: ListTenants :many
SELECT sqlc.embed(tenant), sqlc.embed(reseller) FROM tenant JOIN reseller ON reseller.id = tenant.reseller_id
WHERE tenant.tenant_id > @after AND (@reseller_id::text = '' OR tenant.reseller_id = @reseller_id)
  AND (@state::int = 0 OR (@state = 2) = (coalesce(tenant.operator_suspend_time, tenant.reseller_suspend_time, reseller.suspend_time) IS NOT NULL))
ORDER BY tenant.tenant_id LIMIT @page_size;

-- name: SetTenantSuspensions :exec
UPDATE tenant SET version = @version,
    operator_suspend_time = sqlc.narg(operator_suspend_time), operator_suspend_reason = @operator_suspend_reason, operator_suspend_actor = @operator_suspend_actor,
    reseller_suspend_time = sqlc.narg(reseller_suspend_time), reseller_suspend_reason = @reseller_suspend_reason, reseller_suspend_actor = @reseller_suspend_actor
WHERE tenant_id = @tenant_id;

-- name: InsertCompany :exec
INSERT INTO company (tenant_id, id, display_name, vat_number, tax_code, recipient_code, recipient_codes, pec_addresses, signature_policy, create_time, update_time)
VALUES (@tenant_id, @id, @display_name, @vat_number, @tax_code, @recipient_code, @recipient_codes, @pec_addresses, @signature_policy, @create_time, @create_time);

-- name: GetCompany :one
SELECT tenant_id, id, display_name, vat_number, tax_code, recipient_code, signature_policy, version, create_time, update_time, recipient_codes, pec_addresses
FROM company WHERE tenant_id = @tenant_id AND id = @id;

-- name: LockCompany :one
SELECT tenant_id, id, display_name, vat_number, tax_code, recipient_code, signature_policy, version, create_time, update_time, recipient_codes, pec_addresses
FROM company WHERE tenant_id = @tenant_id AND id = @id FOR UPDATE;

-- name: ListCompanies :many
SELECT tenant_id, id, display_name, vat_number, tax_code, recipient_code, signature_policy, version, create_time, update_time, recipient_codes, pec_addresses
FROM company WHERE tenant_id = @tenant_id AND id > @after ORDER BY id LIMIT @page_size;

-- name: UpdateCompany :exec
UPDATE company SET display_name = @display_name, vat_number = @vat_number, tax_code = @tax_code,
    recipient_code = @recipient_code, recipient_codes = @recipient_codes, pec_addresses = @pec_addresses, signature_policy = @signature_policy, version = @version, update_time = @update_time
WHERE tenant_id = @tenant_id AND id = @id;

-- Over all tenants, in the system's scope. A tax code of eleven digits is the VAT number of the same subject, as a rule.
-- name: LookUpRecipients :many
SELECT tenant_id, id,
       (@code::text <> '' AND (recipient_code = @code OR @code = ANY(recipient_codes)))::bool AS by_code,
       (@pec::text <> '' AND @pec = ANY(pec_addresses))::bool AS by_pec,
       (@vat::text <> '' AND vat_number = @vat)::bool AS by_vat,
       (@tax::text <> '' AND (tax_code = @tax OR vat_number = 'IT' || @tax))::bool AS by_tax
FROM company
WHERE (@code::text <> '' AND (recipient_code = @code OR recipient_codes @> ARRAY[@code::text]))
   OR (@pec::text <> '' AND pec_addresses @> ARRAY[@pec::text])
   OR (@vat::text <> '' AND vat_number = @vat)
   OR (@tax::text <> '' AND (tax_code = @tax OR vat_number = 'IT' || @tax::text))
ORDER BY tenant_id, id
LIMIT 1000;

-- name: InsertApiKey :exec
INSERT INTO api_key (id, tenant_id, owner_kind, owner_id, display_name, prefix, secret_sha256, live, scopes, create_time, expire_time)
VALUES (@id, @tenant_id, @owner_kind, @owner_id, @display_name, @prefix, @secret_sha256, @live, @scopes, @create_time, sqlc.narg(expire_time));

-- name: GetApiKey :one
SELECT id, tenant_id, owner_kind, owner_id, display_name, prefix, secret_sha256, live, scopes, create_time, expire_time, revoke_time, last_use_time
FROM api_key WHERE owner_kind = @owner_kind AND owner_id = @owner_id AND id = @id;

-- name: ListApiKeys :many
SELECT id, tenant_id, owner_kind, owner_id, display_name, prefix, secret_sha256, live, scopes, create_time, expire_time, revoke_time, last_use_time
FROM api_key WHERE owner_kind = @owner_kind AND owner_id = @owner_id AND id > @after ORDER BY id LIMIT @page_size;

-- A key that was revoked before keeps its first time of revocation.
-- name: RevokeApiKey :one
UPDATE api_key SET revoke_time = coalesce(revoke_time, @revoke_time::timestamptz)
WHERE owner_kind = @owner_kind AND owner_id = @owner_id AND id = @id
RETURNING id, tenant_id, owner_kind, owner_id, display_name, prefix, secret_sha256, live, scopes, create_time, expire_time, revoke_time, last_use_time;

-- With the suspensions of its tenant and of its reseller.
-- name: FindApiKey :one
SELECT k.id, k.tenant_id, k.owner_kind, k.owner_id, k.live, k.scopes, k.expire_time, k.revoke_time,
       coalesce(t.reseller_id, '')::text AS reseller_id,
       t.operator_suspend_time, coalesce(t.operator_suspend_reason, '')::text AS operator_suspend_reason,
       t.reseller_suspend_time, coalesce(t.reseller_suspend_reason, '')::text AS reseller_suspend_reason,
       r.suspend_time, coalesce(r.suspend_reason, '')::text AS suspend_reason
FROM api_key k LEFT JOIN tenant t ON t.tenant_id = k.tenant_id
     LEFT JOIN reseller r ON r.id = CASE k.owner_kind WHEN 'resellers' THEN k.owner_id ELSE t.reseller_id END
WHERE k.secret_sha256 = @secret_sha256;

-- name: TouchApiKeys :exec
UPDATE api_key k SET last_use_time = u.at
FROM (SELECT unnest(@ids::text[]) AS id, unnest(@times::timestamptz[]) AS at) u
WHERE k.id = u.id AND (k.last_use_time IS NULL OR k.last_use_time < u.at);

-- Replaces the key that an earlier configuration brought in. It runs at start, alone.
-- name: RetireBootstrapKeys :exec
UPDATE api_key SET revoke_time = @revoke_time::timestamptz
WHERE owner_kind = 'operators' AND owner_id = 'bootstrap' AND secret_sha256 <> @secret_sha256 AND revoke_time IS NULL;

-- name: InsertBootstrapKey :execrows
INSERT INTO api_key (id, tenant_id, owner_kind, owner_id, display_name, prefix, secret_sha256, live, scopes, create_time)
VALUES (@id, '', 'operators', 'bootstrap', 'from bootstrap_operator_key_file', @prefix, @secret_sha256, @live, '{*}', @create_time)
ON CONFLICT (secret_sha256) DO NOTHING;
