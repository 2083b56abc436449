-- Sagas: one row each, for ever. Everything that a saga is going to do follows from this row: no process keeps any of it.
create table saga (
    -- Follows from what the saga is about and its definition's name, so that it is started once however often that is asked.
    id                 uuid        primary key,
    -- Under which definition it began, and ends.
    definition         text        not null,
    definition_version integer     not null,
    -- What it is about: the id of an order.
    subject            text        not null,
    -- What its commands are made of. Never changed after the insert.
    data               jsonb       not null,
    -- State of state.rs: what the log leads to. Kept so that nobody has to replay it; recovered from it if it is damaged.
    state              jsonb       not null,

    -- The rest follows from the state; flat, for queries and for people.
    phase              text        not null check (phase in ('running', 'compensating', 'stuck', 'broken',
                                                             'completed', 'compensated', 'abandoned')),
    -- The step in hand, what it was asked, and how often.
    step               text,
    direction          text        check (direction in ('do', 'undo', 'settle')),
    attempt            integer     not null default 0,
    -- When its answer is overdue. On the database's clock. Null: nothing is awaited, or an operator is.
    due_at             timestamptz check (due_at is null or phase in ('running', 'compensating')),
    -- How long that wait was in all.
    wait_seconds       float8      not null default 0,
    -- Why it is stuck, or broken.
    error              text,
    stuck_since        timestamptz check ((stuck_since is not null) = (phase in ('stuck', 'broken'))),
    -- How many entries its log has.
    entries            integer     not null default 0,
    -- What its messages carry on when nobody's message led to them.
    traceparent        text,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now()
);

-- What the sweep looks for: the few that wait.
create index saga_due on saga (due_at) where due_at is not null;
-- What operators look for.
create index saga_phase on saga (phase, id) where phase in ('running', 'compensating', 'stuck', 'broken');
create index saga_subject on saga (subject);
-- The operator's list, newest first.
create index saga_created_at on saga (created_at desc, id desc);

-- Every input that changed a saga, in order. The state is what they lead to.
create table saga_log (
    saga_id   uuid        not null references saga (id),
    seq       integer     not null,
    input     jsonb       not null,
    -- What followed from it, for people: 'send charge_payment/do, attempt 1'.
    effect    text,
    at        timestamptz not null default now(),
    primary key (saga_id, seq)
);

-- What operators did to sagas, and why.
create table saga_deed (
    id       bigint      generated always as identity primary key,
    saga_id  uuid        not null references saga (id),
    action   text        not null check (action in ('resume', 'skip', 'abandon')),
    step     text,
    operator text        not null,
    note     text        not null,
    at       timestamptz not null default now()
);

create index saga_deed_saga on saga_deed (saga_id);
