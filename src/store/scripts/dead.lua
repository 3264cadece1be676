#!lua flags=allow-oom
-- DEAD: a queued delivery is given up; it moves from its queue to the dead letters.
--
-- KEYS   1 owner  2 queue  3 retry  4 tries  5 dead  6 buried
-- ARGV   1 this daemon's owner value  2 queue id  3 most dead letters kept  4 oldest id kept (ms)  5 uid
--        then the dead letter's fields and values
-- RETURN 'FENCED' or 'GONE' (the entry is no more) and nothing changed, or how many dead letters fell out for their
--        number and how many for their age, as a list of two.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'FENCED'
end
if #redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2]) == 0 then
  return 'GONE'
end
redis.call('XADD', KEYS[5], '*', unpack(ARGV, 6))
redis.call('SADD', KEYS[6], ARGV[5])
redis.call('XDEL', KEYS[2], ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('HDEL', KEYS[4], ARGV[2])
local aged = redis.call('XTRIM', KEYS[5], 'MINID', ARGV[4])
local counted = redis.call('XTRIM', KEYS[5], 'MAXLEN', ARGV[3])
return { counted, aged }
