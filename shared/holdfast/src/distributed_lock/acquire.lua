-- Takes a lock that is free, with its fence.
-- KEYS: the lock, the last fence. ARGV: the token, the time to live in milliseconds, a fence to go above, as sixteen digits.
-- Answers the fence, above zero; or, if somebody else holds it, the milliseconds that their time has left, as -n.
if not redis.call('set', KEYS[1], ARGV[1], 'nx', 'px', ARGV[2]) then
  if redis.call('get', KEYS[1]) ~= ARGV[1] then
    return -math.max(redis.call('pttl', KEYS[1]), 0)
  end
  -- It is ours: an earlier answer was lost on its way.
  redis.call('pexpire', KEYS[1], ARGV[2])
end
-- The clock, so that a Redis that forgot the counter does not begin anew; the counter, so that a clock that was set back
-- changes nothing; what the caller has seen, in case that both happened. All are sixteen digits, compared as text: making
-- numbers of them, and text again, was a quarter of this script's time.
local function digits(text)
  if #text == 16 then return text end
  return ('000000000000000' .. text):sub(-16)
end
local now = redis.call('time')
local fence = digits(now[1] .. ('00000' .. now[2]):sub(-6))
local last = digits(redis.call('set', KEYS[2], fence, 'get') or ARGV[3])
if last < ARGV[3] then last = ARGV[3] end
if last >= fence then
  fence = string.format('%016.0f', last + 1) -- exact below 2^53
  redis.call('set', KEYS[2], fence)
end
return fence
