#!lua
-- REPLAY: a dead letter goes back to the end of its webhook's queue, to be attempted anew.
--
-- KEYS   1 dead  2 queue  3 due
-- ARGV   1 dead letter's id  2 uid  3 now (Unix ms)
-- RETURN 'GONE' (somebody else replayed or purged it) and nothing changed, or the new queue id.
-- A dead letter holds the fields of the delivery under one-letter names, beside longer ones that tell of its end:
-- the first go back, and `attempts` becomes the field `a`, so that the attempt header counts on.
-- Not allow-oom: a full Redis refuses it whole, and the dead letter stays.
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then
  return 'GONE'
end
local fields, back, attempts = found[1][2], {}, '0'
for at = 1, #fields, 2 do
  local name = fields[at]
  if name == 'attempts' then
    attempts = fields[at + 1]
  elseif #name == 1 and name ~= 'a' then
    back[#back + 1] = name
    back[#back + 1] = fields[at + 1]
  end
end
back[#back + 1] = 'a'
back[#back + 1] = attempts
local id = redis.call('XADD', KEYS[2], '*', unpack(back))
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[3], 'LT', ARGV[3], ARGV[2])
return id
