-- name: TrustVersion :one
SELECT coalesce(max(version), 0)::bigint FROM trust_change;

-- name: InsertTrustChange :exec
INSERT INTO trust_change (version, change, change_time) SELECT coalesce(max(version), 0) + 1, @change, @change_time FROM trust_change;

-- name: ListProviders :many
SELECT * FROM trust_provider ORDER BY name;

-- name: GetProvider :one
SELECT * FROM trust_provider WHERE name = @name FOR UPDATE;

-- name: PutProvider :exec
INSERT INTO trust_provider (name, signers, domains, sha256, sha1, update_time) VALUES (@name, @signers, @domains, @sha256, @sha1, @update_time)
ON CONFLICT (name) DO UPDATE SET signers = excluded.signers, domains = excluded.domains, sha256 = excluded.sha256, sha1 = excluded.sha1,
    update_time = excluded.update_time;

-- name: ListAuthorities :many
SELECT * FROM trust_authority ORDER BY sha256;

-- name: InsertAuthority :execrows
INSERT INTO trust_authority (sha256, certificate, subject, create_time) VALUES (@sha256, @certificate, @subject, @create_time)
ON CONFLICT DO NOTHING;

-- name: SeeCertificate :exec
INSERT INTO seen_certificate (sha256, certificate, subject, issuer, addresses, not_before, not_after, first_seen_time, messages)
VALUES (@sha256, @certificate, @subject, @issuer, @addresses, @not_before, @not_after, @first_seen_time, 1)
ON CONFLICT (sha256) DO UPDATE SET messages = seen_certificate.messages + 1;

-- name: ListSeen :many
SELECT * FROM seen_certificate
WHERE (@state::smallint = 0 OR state = @state) AND (sqlc.narg(after)::text IS NULL OR sha256 > sqlc.narg(after))
ORDER BY sha256 LIMIT @page_size;

-- name: LockSeen :one
SELECT * FROM seen_certificate WHERE sha256 = @sha256 FOR UPDATE;

-- name: DecideSeen :exec
UPDATE seen_certificate SET state = @state, provider = @provider, decided_by = @decided_by, decide_time = @decide_time, reason = @reason
WHERE sha256 = @sha256;
