-- Takes a lock that is free, with its fence.
-- KEYS: the lock, the last fence. ARGV: the token, the time to live in milliseconds, a fence to go above; 1 if this is the
-- connection's first lock, else 0; and 1 if the caller will wait for the release, else 0.
-- Answers the fence, above zero; or, if somebody else holds it, the milliseconds that their time has left, as -n.
if not redis.call('set', KEYS[1], ARGV[1], 'nx', 'px', ARGV[2]) then
  local holder = redis.call('get', KEYS[1])
  if holder ~= ARGV[1] and holder ~= ARGV[1] .. '+' then
    -- Has whoever gives it back tell of it: the plus says that somebody waits.
    if ARGV[5] == '1' and string.sub(holder, -1) ~= '+' then redis.call('append', KEYS[1], '+') end
    return -math.max(redis.call('pttl', KEYS[1]), 0)
  end
  -- It is ours: an earlier answer was lost on its way.
  redis.call('pexpire', KEYS[1], ARGV[2])
end
local fence = redis.call('incr', KEYS[2])
local seen = tonumber(ARGV[3])
if ARGV[4] == '0' and fence > seen then return fence end
-- A Redis that lost its memory, all or the last of it, is one whose counter is behind what the caller has seen, or one that
-- the caller has just connected to. Its clock is ahead of all that it ever counted: nobody takes a million locks a second.
-- The counter is kept where the clock was set back; what the caller has seen, where both happened.
local now = redis.call('time')
fence = math.max(fence, now[1] * 1000000 + now[2], seen + 1)
redis.call('set', KEYS[2], string.format('%.0f', fence)) -- exact below 2^53
return fence
