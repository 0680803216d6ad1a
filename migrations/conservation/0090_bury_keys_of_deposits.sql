-- +goose Up
-- The key that a producer chose may tell of somebody: it goes with the document, also of what was destroyed before.
SET lock_timeout = '5s';

SELECT set_config('ceralacca.scope', 'system', true);
UPDATE deposit AS x SET client_key = 'GONE|' || x.id::text
WHERE x.file_name = '(destroyed)' AND NOT EXISTS (SELECT 1 FROM unit s WHERE s.id = x.unit_id AND s.state <> 'DESTROYED');
SELECT set_config('ceralacca.scope', '', true);
