-- name: IndexLines :many
-- What the index of a package says of a page of its members, in the order of the package: files and nothing else of the rows.
SELECT u.id, u.position::int AS position, u.class, u.integrates, f.ordinal, f.role, f.receipt_type, f.file_name, f.sha256
FROM unit u JOIN unit_file f ON f.unit_id = u.id
WHERE u.package_id = @package_id::uuid AND u.position > @after::int AND u.position <= @last::int
ORDER BY u.position, f.ordinal;
