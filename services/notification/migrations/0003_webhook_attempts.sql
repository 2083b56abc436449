-- What came of each attempt at a webhook. Written in the transaction that says what becomes of the webhook.
create table webhook_attempt (
    -- Forgotten with its webhook.
    webhook_id uuid        not null references webhook (id) on delete cascade,
    -- The webhook's own count, taken under the lock of its row.
    attempt    integer     not null,
    -- How a list is read, and how pruning finds what goes with a webhook.
    primary key (webhook_id, attempt),
    -- retried: it was to go again. gone: the receiver wants nothing any more. given_up: for too long in vain.
    outcome    text        not null check (outcome in ('delivered', 'retried', 'gone', 'given_up')),
    -- What was answered, or what there was instead of an answer.
    reply      text        not null,
    took_ms    integer     not null,
    -- When it was over.
    at         timestamptz not null default now()
);

-- Who had a webhook sent again: a row for each time that it was not on its way already.
create table webhook_resend (
    id         bigint      generated always as identity primary key,
    webhook_id uuid        not null references webhook (id) on delete cascade,
    -- A customer or an operator.
    asked_by   text        not null,
    -- Why. An operator has to say; a customer's webhooks are the customer's own.
    note       text,
    at         timestamptz not null default now()
);

create index webhook_resend_webhook on webhook_resend (webhook_id, id);

alter table webhook
    -- When it was last sent again. It is as old as that: until it is given up, and for who claimed it before, whose attempt
    -- says nothing about what was asked for since.
    add column resent_at timestamptz,
    -- How many attempts there were until then: waits begin anew.
    add column attempts_before integer not null default 0;

-- What can be recovered.
create index webhook_failed on webhook (endpoint_id, created_at, id) where state = 'failed';
