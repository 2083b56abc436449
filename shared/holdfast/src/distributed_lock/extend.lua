-- Gives a lock its whole time again, if it is still the caller's.
-- KEYS: the lock. ARGV: the token, the time to live in milliseconds.
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('pexpire', KEYS[1], ARGV[2])
