-- The newest holder of each account's lock that was let write. Whoever comes with an older fence has been overtaken, and
-- writes nothing.
create table account_fence (
    customer_id text   primary key,
    fence       bigint not null,
    -- Whose: the lock's token.
    holder      uuid   not null
);
