-- Gives a lock its whole time again, if it is still the caller's, whether or not somebody waits for it.
-- KEYS: the lock, and the channel of that name. ARGV: the token, the time to live in milliseconds.
local holder = redis.call('get', KEYS[1])
if holder ~= ARGV[1] and holder ~= ARGV[1] .. '+' then
  -- Redis may have forgotten who waits as well: they look who has it now.
  redis.call('publish', KEYS[1], '')
  return 0
end
return redis.call('pexpire', KEYS[1], ARGV[2])
