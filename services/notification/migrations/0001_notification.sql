-- The newest state of an order that its customer was told of, for ever. What comes late and is older is told to nobody.
create table told (
    order_id      uuid        primary key,
    order_version integer     not null,
    updated_at    timestamptz not null default now()
);

-- A mail. Written in the transaction that takes in the event; sent by a worker.
create table mail (
    -- Also the Message-ID, so that a mail that was sent twice can be told by its receiver.
    id          uuid        primary key,
    order_id    uuid        not null,
    -- The event's type without its version: order.confirmed, order.cancelled.
    kind        text        not null,
    -- One mail of a kind per order, however often the event comes.
    unique (order_id, kind),
    recipient   text,
    subject     text        not null,
    body        text        not null,
    -- skipped: there was no address. failed: the server refused it for good, or for too long.
    state       text        not null check (state in ('queued', 'sent', 'failed', 'skipped')),
    check ((recipient is null) = (state = 'skipped')),
    -- What the worker works by. A lease, on the database's clock: a worker that dies loses it by time.
    due_at      timestamptz check ((due_at is not null) = (state = 'queued')),
    attempts    integer     not null default 0,
    traceparent text,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);

-- The few rows that wait to be sent.
create index mail_due on mail (due_at) where due_at is not null;
-- The operator's list.
create index mail_created_at on mail (created_at desc, id);

-- Each attempt to deliver a mail, and what the server said.
create table delivery (
    id      bigint      generated always as identity primary key,
    mail_id uuid        not null references mail (id),
    attempt integer     not null,
    -- accepted; refused: for good; deferred: not now; unknown: no answer, so it may have been taken.
    outcome text        not null check (outcome in ('accepted', 'refused', 'deferred', 'unknown')),
    reply   text        not null,
    at      timestamptz not null default now()
);

create index delivery_mail on delivery (mail_id);
