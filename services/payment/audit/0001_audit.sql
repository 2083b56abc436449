-- What the auditor may read of this database: the role has this schema and no table (deploy/postgres/roles.sql). The names are
-- those of the tables, so that a query finds either. Left out: card tokens, and who has an account locked.
--
-- A view keeps the columns that it shows from being dropped or retyped: the migration that does that replaces the view first.
-- This has a record of its own (`_audit_migrations`) and runs last, because it looks at the tables of the patterns, too.
create schema if not exists audit;

create view audit.account as
    select customer_id, currency, balance_minor from account;

create view audit.deposit as
    select customer_id, currency, amount_minor, at from deposit;

create view audit.payment as
    select order_id, state, customer_id, amount_minor, currency, method, due_at, attempts, created_at, updated_at
    from payment;

create view audit.settlement as
    select order_id, amount_minor, currency, method, at from settlement;

-- The newest fence of each account: what drills compare.
create view audit.account_fence as
    select customer_id, fence from account_fence;

-- How much waits to be published; not what it says.
create view audit.outbox as
    select seq, message_id, exchange, routing_key, created_at, attempts, available_at, quarantined_at
    from outbox;

-- What waits for an operator, and why; not the message itself.
create view audit.parked_message as
    select id, queue, message_id, kind, subject, cause, detail, state, parked_at, resolved_at
    from parked_message;
