#!lua flags=allow-oom
-- BURY: a delivery that has no queue entry becomes a dead letter: one that failed for good while only taken, or one
-- that its webhook's full queue cannot hold.
--
-- KEYS   1 owner  2 dead  3 buried
-- ARGV   1 this daemon's owner value, or '' where the reader of a source buries for any shard
--        2 most dead letters kept  3 oldest id kept (ms)  4 uid
--        then the dead letter's fields and values
-- RETURN 'FENCED' and nothing changed, or how many dead letters fell out for their number and how many for their age,
--        as a list of two. A lost reply costs a second dead letter of the same delivery id, never a loss.
if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'FENCED'
end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 5))
redis.call('SADD', KEYS[3], ARGV[4])
local aged = redis.call('XTRIM', KEYS[2], 'MINID', ARGV[3])
local counted = redis.call('XTRIM', KEYS[2], 'MAXLEN', ARGV[2])
return { counted, aged }
