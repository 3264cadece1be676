#!lua flags=no-writes
-- SHELVES: how many deliveries of one webhook there are of each kind.
--
-- KEYS   1 queue  2 retry  3 dead  4 history
-- ARGV   1 now (Unix ms)  2 dead letters before this have expired  3 so has history (Unix ms; ids)
-- RETURN a list: in the queue, of these scheduled after now, dead letters, history.
-- What has expired is removed now and then, and from a history by whole nodes of its stream: what is left of it until
-- then is no more than a node, and not counted.
local function kept(key, floor)
  return redis.call('XLEN', key) - #redis.call('XRANGE', key, '-', '(' .. floor .. '-0', 'COUNT', 100)
end
local queued = redis.call('XLEN', KEYS[1])
local later = redis.call('ZCOUNT', KEYS[2], '(' .. ARGV[1], '+inf')
return { queued, math.min(later, queued), kept(KEYS[3], ARGV[2]), kept(KEYS[4], ARGV[3]) }
