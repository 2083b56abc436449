-- Gives a lock back, if it is still the caller's, and tells of it if somebody waits.
-- KEYS: the lock, and the channel of that name. ARGV: the token.
-- Answers 0 if it was not the caller's, 1 if it was, 2 if who hears of it has been told as well.
local holder = redis.call('get', KEYS[1])
if holder == ARGV[1] then return redis.call('del', KEYS[1]) end
-- Also where it is gone: then Redis may have forgotten who waits, and they look who has it now.
redis.call('publish', KEYS[1], '')
if holder ~= ARGV[1] .. '+' then return 0 end
redis.call('del', KEYS[1])
return 2
