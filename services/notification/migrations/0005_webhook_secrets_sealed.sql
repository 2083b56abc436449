-- Webhook secrets are kept sealed: encrypted by a key that is not in this database (WEBHOOK_KEYS_FILE), and bound to the id of
-- their endpoint, so that a copy in another row does not open. Written as KEY-ID:BASE64.
--
-- The plain columns stay, for replicas of before that run beside: to them an empty secret is one that does not sign. What they
-- write in plain is what holds, and is sealed later. A migration that comes after all of them are gone drops `secret` and
-- `old_secret`.
alter table webhook_endpoint
    add column sealed     text,
    add column old_sealed text;
