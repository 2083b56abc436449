-- The other half of `traceparent`, carried on to the card company and to the answer. Null in rows of a version before this
-- one, which also writes none while it runs beside.
alter table payment add column tracestate text;
