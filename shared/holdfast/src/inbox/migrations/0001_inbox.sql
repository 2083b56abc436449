-- What was consumed. A row is written in the transaction of its effect, so that the two are true together.
create table inbox (
    -- One message may reach several queues of one service; each takes effect once.
    queue       text        not null,
    message_id  uuid        not null,
    received_at timestamptz not null default now(),
    primary key (queue, message_id)
);

-- Pruning removes the oldest rows.
create index inbox_received_at on inbox (received_at);
