#!lua
-- REPLAY: a dead letter goes back to the end of its webhook's queue, to be attempted anew.
--
-- KEYS   1 dead  2 queue  3 due  4 retry  5 tries  6 stats
-- ARGV   1 dead letter's id  2 uid  3 now (Unix ms)
-- RETURN 'GONE' (somebody else replayed or purged it) and nothing changed, or the new queue id.
-- A dead letter holds the fields of the delivery under one-letter names, beside longer ones that tell of its end:
-- the first go back, and `attempts` becomes the field `a`, so that the attempt header counts on. Its `again` is what its
-- next attempt goes on from (tries with the log of all attempts): with it the new entry is scheduled for now, because a
-- lane reads tries with the schedule only. Where there are tries they count, and `a` does not.
-- It is a failed delivery no more; the count may be below zero until its owner has written down that it was one.
-- Not allow-oom: a full Redis refuses it whole, and the dead letter stays.
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then
  return 'GONE'
end
local fields, back, attempts, again = found[1][2], {}, '0', nil
for at = 1, #fields, 2 do
  local name = fields[at]
  if name == 'attempts' then
    attempts = fields[at + 1]
  elseif name == 'again' then
    again = fields[at + 1]
  elseif #name == 1 and name ~= 'a' then
    back[#back + 1] = name
    back[#back + 1] = fields[at + 1]
  end
end
back[#back + 1] = 'a'
back[#back + 1] = attempts
local id = redis.call('XADD', KEYS[2], '*', unpack(back))
if again then
  redis.call('HSET', KEYS[5], id, again)
  redis.call('ZADD', KEYS[4], ARGV[3], id)
end
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[3], 'LT', ARGV[3], ARGV[2])
redis.call('HINCRBY', KEYS[6], 'failed', -1)
return id
