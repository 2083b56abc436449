-- What the auditor may read of this database: the role has this schema and no table (deploy/postgres/roles.sql). The names are
-- those of the tables, so that a query finds either. Left out: card tokens.
--
-- A view keeps the columns that it shows from being dropped or retyped: the migration that does that replaces the view first.
-- This has a record of its own (`_audit_migrations`) and runs last, because it looks at the tables of the patterns, too.
create schema if not exists audit;

create view audit.charge as
    select id, reference, amount_minor, currency, status, created_at from charge;

create view audit.ledger as
    select seq, charge_id, kind, amount_minor, currency, at from ledger;
