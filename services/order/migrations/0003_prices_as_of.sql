-- When inventory could not be asked, an order has the prices that it last named, if they are not too old. Then the order
-- says of when they are.
alter table orders add column prices_as_of timestamptz;
