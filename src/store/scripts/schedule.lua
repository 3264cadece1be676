#!lua flags=allow-oom
-- SCHEDULE: a queued delivery failed and is to be tried again; only a schedule beside its entry is written.
--
-- KEYS   1 owner  2 queue  3 retry  4 tries  5 due
-- ARGV   1 this daemon's owner value  2 uid  3 queue id  4 when the next attempt is due (Unix ms)  5 tries as JSON
--        ('' = whatever stands there stays: it may be of a form that this daemon does not know)
-- RETURN 'FENCED' or 'GONE' (the entry is no more) and nothing changed, or 'OK'.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'FENCED'
end
if #redis.call('XRANGE', KEYS[2], ARGV[3], ARGV[3]) == 0 then
  return 'GONE'
end
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[3])
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[4], ARGV[3], ARGV[5])
end
redis.call('ZADD', KEYS[5], 'LT', ARGV[4], ARGV[2])
return 'OK'
