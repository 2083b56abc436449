-- Acquires a lock that is free, with its fence. KEYS: the lock, the last fence.
-- ARGV: the token, the time to live in milliseconds, a fence to go above,
--       1 if this is the connection's first lock, else 0; and 1 if the caller will wait for the release, else 0.
-- Returns the fence, above zero; or, if another holder has the lock, the milliseconds of its time to live, as -n.
if not redis.call('set', KEYS[1], ARGV[1], 'nx', 'px', ARGV[2]) then
  local holder = redis.call('get', KEYS[1])
  if holder ~= ARGV[1] and holder ~= ARGV[1] .. '+' then
    -- Flag the lock with a plus, so that its release is published.
    if ARGV[5] == '1' and string.sub(holder, -1) ~= '+' then redis.call('append', KEYS[1], '+') end
    return -math.max(redis.call('pttl', KEYS[1]), 0)
  end
  -- It is ours: the reply to an earlier request was lost.
  redis.call('pexpire', KEYS[1], ARGV[2])
end
local fence = redis.call('incr', KEYS[2])
local seen = tonumber(ARGV[3])
if ARGV[4] == '0' and fence > seen then return fence end
-- A Redis that lost all or the last of its memory shows in one of two ways: its counter is behind what the caller has
-- seen, or the caller has just connected to it. Its clock is ahead of all that it ever counted, as no Redis grants a
-- million locks a second. Take the counter if the clock was set back, and what the caller has seen if both happened.
local now = redis.call('time')
fence = math.max(fence, now[1] * 1000000 + now[2], seen + 1)
redis.call('set', KEYS[2], string.format('%.0f', fence)) -- exact below 2^53
return fence
