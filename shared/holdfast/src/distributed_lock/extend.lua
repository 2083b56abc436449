-- Renews a lock for its whole time to live, if it is still the caller's, flagged or not.
-- KEYS: the lock, which is also the name of its channel. ARGV: the token, the time to live in milliseconds.
local holder = redis.call('get', KEYS[1])
if holder ~= ARGV[1] and holder ~= ARGV[1] .. '+' then
  -- Redis may have lost the flag with the lock: let the waiters ask again.
  redis.call('publish', KEYS[1], '')
  return 0
end
return redis.call('pexpire', KEYS[1], ARGV[2])
