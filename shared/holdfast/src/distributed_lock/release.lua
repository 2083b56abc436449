-- Releases a lock, if it is still the caller's, and publishes the release if the lock is flagged.
-- KEYS: the lock, which is also the name of its channel. ARGV: the token.
-- Returns 0 if it was not the caller's, 1 if it was, 2 if it was and the release was published.
local holder = redis.call('get', KEYS[1])
if holder == ARGV[1] then return redis.call('del', KEYS[1]) end
-- Publish also if the lock is gone: Redis may have lost the flag with it, so let the waiters ask again.
redis.call('publish', KEYS[1], '')
if holder ~= ARGV[1] .. '+' then return 0 end
redis.call('del', KEYS[1])
return 2
