#!lua
-- STORE: gives deliveries that were only taken a home of their own in their webhook's queue.
--
-- KEYS   1 owner  2 queue  3 retry  4 tries  5 due   (of one shard and one webhook)
-- ARGV   1 this daemon's owner value  2 uid  3 number of deliveries  4 most deliveries that the queue may hold
--        then for each: when its next attempt is due (Unix ms; '' = unscheduled, it is due as soon as the queue gets
--        there), its tries as JSON ('' = none), the number of fields and values, the fields and values
--        last: now (Unix ms)
-- RETURN 'FENCED' or 'FULL' (they do not fit) and nothing changed, or the list of new queue ids, in order.
-- Not allow-oom: a full Redis refuses it whole, and the source stays the home.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'FENCED'
end
if redis.call('XLEN', KEYS[2]) + tonumber(ARGV[3]) > tonumber(ARGV[4]) then
  return 'FULL'
end
local ids, at, first = {}, 5, nil
local now = ARGV[#ARGV]
for n = 1, tonumber(ARGV[3]) do
  local due, tries, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local id = redis.call('XADD', KEYS[2], '*', unpack(ARGV, at + 3, at + 2 + count))
  if due ~= '' then
    redis.call('ZADD', KEYS[3], due, id)
  end
  if tries ~= '' then
    redis.call('HSET', KEYS[4], id, tries)
  end
  local work = due ~= '' and tonumber(due) or tonumber(now)
  if first == nil or work < first then
    first = work
  end
  ids[n] = id
  at = at + 3 + count
end
redis.call('ZADD', KEYS[5], 'LT', string.format('%.0f', first), ARGV[2])
return ids
