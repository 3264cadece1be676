#!lua
-- PUT TOKEN: keeps a new API token, if its tenant has room for one more.
--
-- KEYS   1 token  2 digests of all tokens  3 tokens of the tenant  4 all tokens
-- ARGV   1 id  2 digest  3 body  4 created (Unix ms)  5 ends (Unix ms, '' = never)  6 most tokens of a tenant
-- RETURN 1; 0 and nothing changed if the tenant has its most already, those that ended and are still listed included.
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[6]) then
  return 0
end
redis.call('HSET', KEYS[1], 'body', ARGV[3])
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'ends', ARGV[5])
  redis.call('PEXPIREAT', KEYS[1], ARGV[5])
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
redis.call('ZADD', KEYS[4], ARGV[4], ARGV[1])
return 1
