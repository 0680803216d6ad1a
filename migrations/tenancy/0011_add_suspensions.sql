-- Suspension of tenants, by the operators and by their reseller independently, and of resellers. The history is in the audit entries.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE reseller
    ADD COLUMN version        integer NOT NULL DEFAULT 1,
    ADD COLUMN suspend_time   timestamptz,
    ADD COLUMN suspend_reason text    NOT NULL DEFAULT '',
    ADD COLUMN suspend_actor  text    NOT NULL DEFAULT '';
ALTER TABLE tenant
    ADD COLUMN operator_suspend_time   timestamptz,
    ADD COLUMN operator_suspend_reason text NOT NULL DEFAULT '',
    ADD COLUMN operator_suspend_actor  text NOT NULL DEFAULT '',
    ADD COLUMN reseller_suspend_time   timestamptz,
    ADD COLUMN reseller_suspend_reason text NOT NULL DEFAULT '',
    ADD COLUMN reseller_suspend_actor  text NOT NULL DEFAULT '';
