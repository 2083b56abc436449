-- Orders take the orchestrated way too. One statement, so that the table is read once and locked once.
alter table orders
    drop constraint orders_coordination_check,
    add constraint orders_coordination_check check (coordination in ('choreography', 'orchestration')),

    -- Of an orchestrated order: whether its saga was ever told that it is confirmed. It stays when the customer cancels
    -- after that, because the answer to "confirm it" is for ever: a saga that asks again must not hear the contrary.
    add column was_confirmed boolean not null default false,
    add constraint orders_was_confirmed_check check (
        case coordination
            when 'orchestration' then case state
                when 'pending'   then not was_confirmed
                when 'confirmed' then was_confirmed
                else true
            end
            else not was_confirmed
        end
    ),

    -- An orchestrated order has no deadline of its own: its saga waits, and gives up.
    add constraint orders_deadline_at_check check (coordination = 'choreography' or deadline_at is null);
