-- The parking lot: what a queue of this service could not handle.
create table parked_message (
    id          uuid        primary key,
    queue       text        not null,
    message_id  uuid        not null,
    -- What the envelope says; null if it could not be read.
    kind        text,
    subject     text,
    headers     jsonb       not null,
    -- As it came. Bytes, because a malformed message may not even be text.
    payload     bytea       not null,
    -- One word: malformed, unknown_type, rejected, exhausted, delivery_limit, dead_lettered.
    cause       text        not null,
    detail      text        not null,
    state       text        not null default 'parked' check (state in ('parked', 'requeued', 'dropped')),
    parked_at   timestamptz not null default now(),
    resolved_at timestamptz,
    -- The id under which it was sent again.
    requeued_as uuid,
    check ((state = 'parked') = (resolved_at is null)),
    check ((state = 'requeued') = (requeued_as is not null)),
    -- A message is parked once, however often the broker brings it to the dead-letter queue.
    unique (queue, message_id)
);

-- The operator's list, and the gauge.
create index parked_message_open on parked_message (parked_at, id) where state = 'parked';

-- Who did what to it. Written in the transaction of the deed.
create table parked_message_audit (
    id        bigint      generated always as identity primary key,
    parked_id uuid        not null references parked_message (id),
    action    text        not null check (action in ('edited', 'requeued', 'dropped')),
    operator  text        not null,
    note      text        not null,
    at        timestamptz not null default now(),
    -- What an edit replaced.
    before    bytea,
    after     bytea
);

create index parked_message_audit_parked_id on parked_message_audit (parked_id);
