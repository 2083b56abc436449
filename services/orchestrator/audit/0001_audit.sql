-- What the auditor may read of this database: the role has this schema and no table (deploy/postgres/roles.sql). The names are
-- those of the tables, so that a query finds either. Left out: what sagas carry, which has addresses and card tokens in it.
--
-- A view keeps the columns that it shows from being dropped or retyped: the migration that does that replaces the view first.
-- This has a record of its own (`_audit_migrations`) and runs last, because it looks at the tables of the patterns, too.
create schema if not exists audit;

create view audit.saga as
    select id, definition, definition_version, subject, phase, step, error, stuck_since, created_at, updated_at
    from saga;

create view audit.saga_deed as
    select id, saga_id, action, step, operator, note, at from saga_deed;

-- How much waits to be published; not what it says.
create view audit.outbox as
    select seq, message_id, exchange, routing_key, created_at, attempts, available_at, quarantined_at
    from outbox;

-- What waits for an operator, and why; not the message itself.
create view audit.parked_message as
    select id, queue, message_id, kind, subject, cause, detail, state, parked_at, resolved_at
    from parked_message;
