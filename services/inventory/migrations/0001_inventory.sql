-- What is sold, and for how much.
create table product (
    sku         text        primary key,
    name        text        not null,
    price_minor bigint      not null check (price_minor > 0),
    currency    text        not null,
    updated_at  timestamptz not null default now()
);

-- How much there is of it. Apart from the product, so that a new price does not wait for a hot reservation.
create table stock (
    sku         text   primary key references product (sku),
    available   bigint not null default 0 check (available >= 0),
    reserved    bigint not null default 0 check (reserved >= 0),
    sold        bigint not null default 0 check (sold >= 0),
    -- What operators settled by hand.
    written_off bigint not null default 0 check (written_off >= 0),
    -- Everything that was ever delivered.
    stocked     bigint not null default 0,
    -- Units move between the columns; none appears or disappears.
    check (available + reserved + sold + written_off = stocked)
);

-- A delivery of units. The key makes it safe to repeat.
create table delivery (
    key        text        primary key,
    sku        text        not null references stock (sku),
    quantity   bigint      not null check (quantity > 0),
    operator   text        not null,
    at         timestamptz not null default now()
);

create index delivery_sku on delivery (sku);

-- One row per order, for ever: the effect, the record that it was done, and the tombstone that keeps a late message from
-- doing it after it was undone.
create table reservation (
    order_id      uuid        primary key,
    -- The state of src/domain.rs.
    state         text        not null check (state in ('reserved', 'rejected', 'sold', 'released', 'void', 'settled')),
    -- What is, or was, set aside: [{"sku": …, "quantity": …}]. Null where nothing ever was.
    lines         jsonb,
    check ((lines is null) = (state in ('rejected', 'void'))),
    reject_reason text        check ((reject_reason is not null) = (state = 'rejected')),
    reject_sku    text,
    -- Whether what was released had been sold.
    restocked     boolean     check ((restocked is not null) = (state = 'released')),
    -- The newest state of the order that we have heard of; our answers carry it.
    order_version integer     not null,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now()
);

-- What operators wrote off instead of releasing it.
create table settlement (
    order_id uuid        primary key references reservation (order_id),
    lines    jsonb       not null,
    -- reserved or sold: what the units were before.
    was      text        not null check (was in ('reserved', 'sold')),
    operator text        not null,
    note     text        not null,
    at       timestamptz not null default now()
);
