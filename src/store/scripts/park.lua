#!lua flags=allow-oom
-- PARK: a lane with nothing in flight goes to sleep; when it has work again is read from what is stored, not from what
-- the lane believes, so that no wake-up can be lost.
--
-- KEYS   1 owner  2 queue  3 retry  4 tries  5 lane  6 due
-- ARGV   1 this daemon's owner value  2 uid  3 cursor: all entries up to it are scheduled or gone
--        4 hold: nothing may be sent before (Unix ms; 0 = none)  5 now (Unix ms)
--        6 due time of a paused webhook ('' = not paused)
--        7 '' or, for a lane that keeps the order, the entry that alone says when there is work: its head, or '-' for the
--          queue's first one. Where its head is not the first, what stands before cannot be read.
-- RETURN 'FENCED' and nothing changed, or when the lane has work next (Unix ms), -1 for never.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'FENCED'
end
local now, hold = tonumber(ARGV[5]), tonumber(ARGV[4])
if redis.call('XLEN', KEYS[2]) == 0 then
  -- An empty queue leaves nothing behind; a hold outlives it.
  redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4])
  redis.call('ZREM', KEYS[6], ARGV[2])
  if hold > now then
    redis.call('HSET', KEYS[5], 'hold', ARGV[4], 'cursor', '0-0')
    redis.call('PEXPIREAT', KEYS[5], ARGV[4])
  else
    redis.call('UNLINK', KEYS[5])
  end
  return -1
end
redis.call('HSET', KEYS[5], 'hold', ARGV[4], 'cursor', ARGV[3])
redis.call('PERSIST', KEYS[5])
if ARGV[6] ~= '' then
  -- A paused webhook stays listed, so that whoever finds it active again finds its work too.
  redis.call('ZADD', KEYS[6], ARGV[6], ARGV[2])
  return tonumber(ARGV[6])
end
local due
if ARGV[7] ~= '' then
  local head = ARGV[7]
  if head == '-' then
    head = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1][1]
  end
  due = tonumber(redis.call('ZSCORE', KEYS[3], head) or now)
elseif #redis.call('XRANGE', KEYS[2], '(' .. ARGV[3], '+', 'COUNT', 1) > 0 then
  due = now
end
if due == nil then
  local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
  -- Entries that are neither behind the cursor nor scheduled would be lost to the lane: read from the start again.
  if redis.call('ZCARD', KEYS[3]) < redis.call('XLEN', KEYS[2]) then
    redis.call('HSET', KEYS[5], 'cursor', '0-0')
    due = now
  elseif #first > 0 then
    due = tonumber(first[2])
  end
end
if due < hold then
  due = hold
end
redis.call('ZADD', KEYS[6], string.format('%.0f', due), ARGV[2])
return due
