#!lua flags=allow-oom
-- HASTEN: a scheduled delivery becomes due now, because somebody asked for it.
--
-- KEYS   1 queue  2 retry  3 due
-- ARGV   1 queue id  2 uid  3 now (Unix ms)
-- RETURN 'GONE' (the entry is no more) or 'NOT_SCHEDULED' (it has no schedule, or is due already) and nothing changed,
--        or 'OK'. The caller wakes the owner.
--
-- Right from anyone, so no owner is asked for: it creates and removes nothing, it only moves a schedule that stands beside
-- an existing entry forward, to a time at which the owner may attempt it anyway. Beside what the owner does:
--   SCHEDULE before it   is moved forward; the lane that wrote it is woken and reads what is stored, not what it wrote
--   SCHEDULE after it    counts: an attempt was made meanwhile, or is what was in flight when somebody asked
--   DEAD, a removal      before it: GONE; after it: they clear the schedule wherever it stands
--   PARK before it       `due` is moved forward here, and the wake-up or the owner's sweep makes a lane
--   PARK after it        reads the schedule from what is stored
--   an attempt in flight goes on; a lane does not read entries that it holds
-- A hold that the receiver asked for, the rate limit and a pause stay in force.
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then
  return 'GONE'
end
local at = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not at or tonumber(at) <= tonumber(ARGV[3]) then
  return 'NOT_SCHEDULED'
end
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('ZADD', KEYS[3], 'LT', ARGV[3], ARGV[2])
return 'OK'
