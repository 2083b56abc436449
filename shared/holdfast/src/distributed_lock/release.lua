-- Gives a lock back, if it is still the caller's, and tells who waits. To nobody it costs next to nothing.
-- KEYS: the lock. ARGV: the token, the channel.
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('del', KEYS[1])
redis.call('publish', ARGV[2], '')
return 1
