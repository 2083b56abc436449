-- Where the card company's answer will be told. Null: choreography asked, and it is told to everybody. Otherwise the
-- idempotency key of the orchestrator's command that it will be the answer to: the newest one whose answer must wait for the
-- card company, so an undo that comes while the charge is asked for takes the place of the charge.
alter table payment add column reply_key text;
