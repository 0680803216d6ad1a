-- The roles and schemas of a production database, for an administrator to run in the
-- platform's own database, once and again after each release that adds a service:
--
--     createdb ceralacca
--     psql -d ceralacca -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql
--
-- then a password for each: psql -d ceralacca -c '\password ceralacca_invoice', or client certificates.
--
-- ceralacca_migrate owns every schema and is used by `ceralaccad migrate` alone. A service's
-- role may use its own schema, owns nothing and sees no other; what it may do with each table
-- is granted by the migration that makes the table.

DO $$
DECLARE
  service text;
  role    text;
  names   CONSTANT text[] := ARRAY['tenancy', 'invoice', 'signer', 'sdi_gateway', 'pec_gateway', 'conservation', 'notification'];
  limits  CONSTANT text   := 'LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS';
BEGIN
  -- Nothing is open to everyone: neither the public schema nor temporary tables.
  REVOKE ALL ON SCHEMA public FROM PUBLIC;
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());

  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ceralacca_migrate') THEN
    EXECUTE 'CREATE ROLE ceralacca_migrate ' || limits;
  END IF;
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO ceralacca_migrate', current_database());

  FOREACH service IN ARRAY names LOOP
    role := 'ceralacca_' || service;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
      EXECUTE format('CREATE ROLE %I ', role) || limits;
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION ceralacca_migrate', service);
    EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', service);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', service, role);
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path = %I', role, current_database(), service);
  END LOOP;
END
$$;
