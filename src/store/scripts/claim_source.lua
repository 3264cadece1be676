#!lua flags=allow-oom
-- CLAIM for a source stream.
--
-- KEYS   1 source
-- ARGV   1 expected owner ('' = none)  2 new owner ('' = release)
-- RETURN 1, or 0 and nothing changed.
local found = redis.call('HGET', KEYS[1], 'owner') or ''
if found ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'owner', ARGV[2])
return 1
