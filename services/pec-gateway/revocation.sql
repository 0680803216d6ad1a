-- name: InsertRevocationList :execrows
INSERT INTO trust_revocation (sha256, issuer, list, this_update, next_update, create_time, source)
VALUES (@sha256, @issuer, @list, @this_update, sqlc.narg(next_update), @create_time, @source)
ON CONFLICT DO NOTHING;

-- name: ListRevocationLists :many
SELECT * FROM trust_revocation ORDER BY this_update DESC LIMIT @most;

-- Of what was fetched the newest lists of each place stay.
-- name: TrimRevocationLists :exec
DELETE FROM trust_revocation WHERE source = @source::text AND sha256 NOT IN (
    SELECT r.sha256 FROM trust_revocation r WHERE r.source = @source::text ORDER BY r.this_update DESC LIMIT @most);

-- name: SeeRevocationPoint :exec
INSERT INTO revocation_point (url, next_time, create_time)
SELECT @url, @now::timestamptz, @now::timestamptz WHERE (SELECT count(*) FROM revocation_point) < @most::bigint
ON CONFLICT DO NOTHING;

-- The place that is due; nobody else takes it before until.
-- name: TakeRevocationPoint :one
UPDATE revocation_point SET next_time = @until::timestamptz
WHERE url = (SELECT p.url FROM revocation_point p WHERE p.next_time <= @now::timestamptz ORDER BY p.next_time LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING *;

-- name: EndRevocationFetch :exec
UPDATE revocation_point SET next_time = @next_time, fetch_time = coalesce(sqlc.narg(fetch_time), fetch_time), failures = @failures, problem = @problem
WHERE url = @url;
