-- A charge that was asked for. The idempotency key is the merchant's; the same key is the same charge, for ever.
create table charge (
    id               uuid        primary key,
    idempotency_key  text        not null unique,
    request_hash     bytea       not null,
    -- The merchant's name for what is paid.
    reference        text        not null,
    token            text        not null,
    amount_minor     bigint      not null check (amount_minor > 0),
    currency         text        not null,
    status           text        not null check (status in ('processing', 'captured', 'declined')),
    decline_reason   text        check ((decline_reason is not null) = (status = 'declined')),
    -- Until when a charge that is being processed is left to whoever processes it.
    processing_until timestamptz check ((processing_until is not null) = (status = 'processing')),
    created_at       timestamptz not null default now()
);

create index charge_reference on charge (reference);

-- Money that moved. Rows are only ever added; a charge is captured once and refunded once.
create table ledger (
    seq             bigint      generated always as identity primary key,
    charge_id       uuid        not null references charge (id),
    kind            text        not null check (kind in ('capture', 'refund')),
    idempotency_key text        not null,
    amount_minor    bigint      not null check (amount_minor > 0),
    currency        text        not null,
    at              timestamptz not null default now(),
    unique (charge_id, kind)
);

-- What goes wrong, for demonstrations and drills. One row.
create table knobs (
    singleton      boolean          primary key default true check (singleton),
    latency_min_ms bigint           not null default 20 check (latency_min_ms >= 0),
    latency_max_ms bigint           not null default 80 check (latency_max_ms >= latency_min_ms),
    fail_before    double precision not null default 0 check (fail_before between 0 and 1),
    fail_after     double precision not null default 0 check (fail_after between 0 and 1),
    decline        double precision not null default 0 check (decline between 0 and 1)
);

insert into knobs default values;
