-- What the auditor may read of this database: the role has this schema and no table (deploy/postgres/roles.sql). The names are
-- those of the tables, so that a query finds either. Left out: where customers live and are written to, card tokens, what was said to whom.
--
-- A view keeps the columns that it shows from being dropped or retyped: the migration that does that replaces the view first.
-- This has a record of its own (`_audit_migrations`) and runs last, because it looks at the tables of the patterns, too.
create schema if not exists audit;

create view audit.orders as
    select id, customer_id, coordination, lines, jsonb_build_object('method', payment -> 'method') as payment,
           amount_minor, currency, state, version, was_confirmed, committed, reason, payment_answer, inventory_answer,
           created_at, updated_at, stuck_since
    from orders;

-- That something was heard of an order, and which saga was asked for.
create view audit.timeline as
    select order_id, kind, jsonb_build_object('saga', data -> 'saga') as data
    from timeline;

-- How much waits to be published; not what it says.
create view audit.outbox as
    select seq, message_id, exchange, routing_key, created_at, attempts, available_at, quarantined_at
    from outbox;

-- What waits for an operator, and why; not the message itself.
create view audit.parked_message as
    select id, queue, message_id, kind, subject, cause, detail, state, parked_at, resolved_at
    from parked_message;
