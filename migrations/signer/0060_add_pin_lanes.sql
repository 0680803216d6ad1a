-- argon2id of a PIN in lanes, side by side: the same memory and passes, in less time. What is there was made in one
-- lane and stays right; the first right use makes it anew.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE credential_pin ADD COLUMN lanes integer NOT NULL DEFAULT 1 CHECK (lanes BETWEEN 1 AND 16);
