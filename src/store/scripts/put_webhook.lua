#!lua
-- PUT: stores a webhook under optimistic concurrency and announces the change.
--
-- KEYS   1 webhook  2 webhooks  3 webhooks of the tenant  4 changes  5 change number
-- ARGV   1 expected version ('' = must not exist)  2 id  3 uid  4 body  5 created (Unix ms)  6 most changes kept
-- RETURN the new version; -1 and nothing changed if the version found is another one.
local found = redis.call('HGET', KEYS[1], 'version') or ''
if found ~= ARGV[1] then
  return -1
end
local version = (tonumber(found) or 0) + 1
redis.call('HSET', KEYS[1], 'version', version, 'uid', ARGV[3], 'body', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[5], ARGV[2])
redis.call('ZADD', KEYS[3], ARGV[5], ARGV[2])
local number = redis.call('INCR', KEYS[5])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[6], '*', 'n', number, 'webhook', ARGV[2])
return version
