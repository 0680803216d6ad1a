-- name: GetPosition :one
SELECT number, told_at, behind_at, ahead FROM archive_position;

-- name: MovePosition :one
-- The next number, unless the replicas are ahead.
INSERT INTO archive_position (number, told_at) VALUES (1, @at::timestamptz)
ON CONFLICT (one) DO UPDATE SET number = archive_position.number + 1, told_at = excluded.told_at WHERE archive_position.behind_at IS NULL
RETURNING number;

-- name: SetBehind :execrows
INSERT INTO archive_position (number, behind_at, ahead) VALUES (0, @at::timestamptz, @ahead::bigint)
ON CONFLICT (one) DO UPDATE SET behind_at = COALESCE(archive_position.behind_at, excluded.behind_at), ahead = GREATEST(archive_position.ahead, excluded.ahead);

-- name: CatchUp :one
-- What the replicas hold was restored: the number is beyond all of theirs.
UPDATE archive_position SET number = GREATEST(number, ahead, @ahead::bigint) + 1, told_at = @at::timestamptz, behind_at = NULL, ahead = NULL
WHERE behind_at IS NOT NULL RETURNING number;
