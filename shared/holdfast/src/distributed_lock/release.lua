-- Gives a lock back, if it is still the caller's, and tells who waits. To nobody it costs next to nothing.
-- KEYS: the lock, and the channel of that name. ARGV: the token.
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('del', KEYS[1])
redis.call('publish', KEYS[1], '')
return 1
