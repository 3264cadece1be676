#!lua flags=allow-oom
-- DELETE: removes a webhook, announces it, and leaves word for the owner of its shard to remove its queue.
--
-- KEYS   1 webhook  2 webhooks  3 webhooks of the tenant  4 changes  5 change number  6 gone
-- ARGV   1 expected version  2 id  3 uid  4 most changes kept
-- RETURN 1; -1 and nothing changed if the version found is another one.
local found = redis.call('HGET', KEYS[1], 'version') or ''
if found ~= ARGV[1] then
  return -1
end
redis.call('UNLINK', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('HSET', KEYS[6], ARGV[3], ARGV[2])
local number = redis.call('INCR', KEYS[5])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[4], '*', 'n', number, 'webhook', ARGV[2])
return 1
