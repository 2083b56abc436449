-- Where the ends of orders are told to programs.
create table webhook_endpoint (
    id               uuid        primary key,
    -- The customer whose orders it hears of. None: it is the operators', and hears of every order.
    owner            text,
    url              text        not null,
    -- The types that it wants; none: all.
    events           text[],
    -- A deleted one stays until its webhooks are pruned: to delete thousands of rows at once would keep whoever queues waiting.
    state            text        not null check (state in ('enabled', 'disabled', 'deleted')),
    -- Why it is disabled.
    reason           text        check ((reason is not null) = (state = 'disabled')),
    -- An HMAC's key has to be known to who signs: whoever reads this column can sign as we do.
    secret           bytea       not null,
    -- Signs too until then: a receiver has that long to take up the new one.
    old_secret       bytea,
    old_secret_until timestamptz,
    check ((old_secret is null) = (old_secret_until is null)),
    -- Since when nothing was delivered and something failed.
    failing_since    timestamptz,
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now()
);

-- Who hears of a customer's order; and an owner's list.
create index webhook_endpoint_owner on webhook_endpoint (owner, created_at) where state <> 'deleted';

-- A webhook to an endpoint. Written in the transaction that takes in the event; sent by a worker.
create table webhook (
    id          uuid        primary key,
    endpoint_id uuid        not null references webhook_endpoint (id),
    -- The header webhook-id: made of the order and the kind, so that it is the same for ever.
    message_id  uuid        not null,
    -- One webhook of a kind per order and endpoint, however often the event comes.
    unique (endpoint_id, message_id),
    order_id    uuid        not null,
    -- The event's type without its version: order.confirmed, order.cancelled.
    kind        text        not null,
    -- As it is signed: each attempt sends these bytes.
    body        text        not null,
    -- held: its endpoint is disabled. failed: given up.
    state       text        not null check (state in ('queued', 'held', 'delivered', 'failed')),
    -- What the worker works by. A lease, on the database's clock: a worker that dies loses it by time.
    due_at      timestamptz check ((due_at is not null) = (state = 'queued')),
    attempts    integer     not null default 0,
    -- What came of the last attempt.
    last_reply  text,
    traceparent text,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);

-- The rows that wait to be sent: all of them, and an endpoint's.
create index webhook_due on webhook (due_at) where due_at is not null;
create index webhook_due_of_endpoint on webhook (endpoint_id, due_at) where due_at is not null;
create index webhook_held on webhook (endpoint_id) where state = 'held';
-- What an owner sees of an endpoint.
create index webhook_recent on webhook (endpoint_id, created_at desc, id);
-- What is to be pruned.
create index webhook_over on webhook (updated_at) where due_at is null;
