-- One row per order, for ever: what was ordered, and where it stands.
create table orders (
    -- UUIDv7, so that the primary key is also the order of creation.
    id               uuid        primary key,
    customer_id      text        not null,
    email            text,
    coordination     text        not null check (coordination in ('choreography')),
    -- Never changed after the insert. JSON, because nothing queries inside.
    lines            jsonb       not null,
    payment          jsonb       not null,
    amount_minor     bigint      not null check (amount_minor > 0),
    currency         text        not null,

    -- The state of src/domain.rs, flat. The checks say which columns belong to which state.
    state            text        not null check (state in ('pending', 'confirmed', 'cancelling', 'cancelled')),
    -- Counts the changes of state. Every event carries it, so that one can tell which is older.
    version          integer     not null check (version > 0),
    committed        boolean     not null default false check (not committed or state = 'confirmed'),
    reason           text        check ((reason is not null) = (state in ('cancelling', 'cancelled'))),
    payment_answer   text        check (payment_answer in ('undone', 'nothing_to_undo', 'settled')),
    inventory_answer text        check (inventory_answer in ('undone', 'nothing_to_undo', 'settled')),
    check (state in ('cancelling', 'cancelled') or (payment_answer is null and inventory_answer is null)),
    check (state <> 'cancelled' or (payment_answer is not null and inventory_answer is not null)),

    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),

    -- When a pending order is given up. Set when this service hears its own order.created from the broker, so that an
    -- outage of the broker cancels nothing.
    deadline_at      timestamptz,
    -- When to say again what has not been answered; null when nothing is awaited.
    sweep_at         timestamptz,
    sweeps           integer     not null default 0,
    -- Said often enough: an operator's turn.
    stuck_since      timestamptz
);

-- A customer's list, newest first.
create index orders_customer on orders (customer_id, id desc);
-- The three things that the workers look for. Each index holds only the few rows that wait for it.
create index orders_deadline on orders (deadline_at) where state = 'pending' and deadline_at is not null;
create index orders_sweep on orders (sweep_at) where sweep_at is not null;
create index orders_stuck on orders (stuck_since) where stuck_since is not null;

-- What was answered to a request under an Idempotency-Key. A row is written together with its order, so there is never
-- one without the other; a request that failed leaves none.
create table idempotency_key (
    customer_id  text        not null,
    key          text        not null,
    request_hash bytea       not null,
    order_id     uuid        not null references orders (id),
    response     jsonb       not null,
    created_at   timestamptz not null default now(),
    primary key (customer_id, key)
);

create index idempotency_key_created_at on idempotency_key (created_at);

-- Every fact that any service published about an order, in the order in which it arrived here.
create table timeline (
    seq             bigint      generated always as identity primary key,
    order_id        uuid        not null,
    message_id      uuid        not null,
    kind            text        not null,
    source          text        not null,
    causation_id    uuid,
    traceparent     text,
    -- On the publisher's clock; null if it gave none.
    occurred_at     timestamptz,
    recorded_at     timestamptz not null default now(),
    data            jsonb       not null
);

create index timeline_order on timeline (order_id, seq);

-- What operators did to orders.
create table operator_deed (
    id       bigint      generated always as identity primary key,
    order_id uuid        not null references orders (id),
    action   text        not null check (action in ('cancelled', 'resumed', 'settled')),
    operator text        not null,
    note     text        not null,
    at       timestamptz not null default now()
);

create index operator_deed_order on operator_deed (order_id);
