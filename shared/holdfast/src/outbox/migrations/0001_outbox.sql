-- What is to be published. A row is written in the transaction of the change that it tells of, and deleted once the
-- broker has confirmed it, so the table is small whenever the broker is up.
create table outbox (
    -- The order in which rows are claimed. Not the order in which they commit, so never "everything after N".
    seq            bigint      generated always as identity primary key,
    -- Kept when a row is published again: the receiver's inbox knows it by this.
    message_id     uuid        not null unique,
    exchange       text        not null,
    routing_key    text        not null,
    headers        jsonb       not null,
    payload        bytea       not null,
    created_at     timestamptz not null default now(),
    -- How often the broker refused this row. An outage counts for nobody.
    attempts       integer     not null default 0,
    available_at   timestamptz not null default now(),
    last_error     text,
    -- Refused too often: left alone until an operator releases it.
    quarantined_at timestamptz
);

create index outbox_quarantined on outbox (quarantined_at) where quarantined_at is not null;

-- Rows live for milliseconds: vacuum by count of dead rows, not by share of a table that is empty most of the time.
alter table outbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
