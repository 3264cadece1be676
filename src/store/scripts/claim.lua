#!lua flags=allow-oom
-- CLAIM (and release): sets a shard's owner if it is the one that the caller saw.
--
-- KEYS   1 owner
-- ARGV   1 expected owner value ('' = there never was one)  2 new owner value: '<nonce>:<epoch>', or ':<epoch>' to release;
--          the epoch stays, so that no owner value ever comes a second time
-- RETURN 1, or 0 and nothing changed.
local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
