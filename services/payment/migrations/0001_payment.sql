-- Wallets: one per customer and currency.
create table account (
    customer_id   text   not null,
    currency      text   not null,
    balance_minor bigint not null check (balance_minor >= 0),
    primary key (customer_id, currency)
);

-- Money that came into a wallet from outside. The key makes it safe to repeat.
create table deposit (
    key          text        primary key,
    customer_id  text        not null,
    currency     text        not null,
    amount_minor bigint      not null check (amount_minor > 0),
    operator     text        not null,
    at           timestamptz not null default now(),
    foreign key (customer_id, currency) references account (customer_id, currency)
);

create index deposit_account on deposit (customer_id, currency);

-- One row per order, for ever: the effect, the record that it was done, and the tombstone that keeps a late message from
-- doing it after it was undone.
create table payment (
    order_id         uuid        primary key,
    -- The state of src/domain.rs.
    state            text        not null
                     check (state in ('charging', 'captured', 'declined', 'refunding', 'refunded', 'void', 'settled')),
    -- A cancel came while the card company had not answered: a capture that lands now is refunded.
    cancel_requested boolean     not null default false check (not cancel_requested or state = 'charging'),
    -- What is charged, and how. Null on a tombstone, which came before we knew.
    customer_id      text,
    amount_minor     bigint      check (amount_minor > 0),
    currency         text,
    method           text        check (method in ('wallet', 'card')),
    card_token       text        check ((card_token is not null) = (method is not null and method = 'card')),
    -- Travels on to inventory with payment.completed, when the card company has answered.
    lines            jsonb,
    check (state = 'void' or (customer_id is not null and amount_minor is not null and currency is not null
                              and method is not null and lines is not null)),
    decline_reason   text        check ((decline_reason is not null) = (state = 'declined')),
    -- The card company's name for the charge.
    charge_id        uuid,
    order_version    integer     not null,

    -- What the worker works by. A lease, on the database's clock: a worker that dies loses it by time.
    due_at           timestamptz check ((due_at is not null) = (state in ('charging', 'refunding'))),
    attempts         integer     not null default 0,
    last_error       text,
    -- What came in with the message that began it, so that the answer carries the trace and the cause on.
    causation_id     uuid,
    traceparent      text,

    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now()
);

-- The few rows that wait for the card company.
create index payment_due on payment (due_at) where due_at is not null;

-- What operators wrote off instead of refunding it.
create table settlement (
    order_id     uuid        primary key references payment (order_id),
    -- What our books say was taken; zero if the card company never answered.
    amount_minor bigint      not null check (amount_minor >= 0),
    currency     text        not null,
    method       text        not null check (method in ('wallet', 'card')),
    operator     text        not null,
    note         text        not null,
    at           timestamptz not null default now()
);
