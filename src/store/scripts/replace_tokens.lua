#!lua
-- REPLACE TOKENS: keeps a new API token and ends all others of its tenant, at once or after a grace. Whoever asks meanwhile
-- finds the old ones or the new one, never neither.
--
-- KEYS   1 new token  2 digests of all tokens  3 tokens of the tenant  4 all tokens
-- ARGV   1 id  2 digest  3 body  4 created (Unix ms)  5 the others end (Unix ms, '' = at once)  6 most tokens of a tenant
--        7 what the keys of tokens begin with: those of the others are made here, in the slot of the keys above
-- RETURN 1; 0 and nothing changed if the tenant has its most already and they are to be kept for the grace.
local others = redis.call('ZRANGE', KEYS[3], 0, -1)
if ARGV[5] ~= '' and #others >= tonumber(ARGV[6]) then
  return 0
end
redis.call('HSET', KEYS[1], 'body', ARGV[3])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
redis.call('ZADD', KEYS[4], ARGV[4], ARGV[1])
for _, id in ipairs(others) do
  local digest = redis.call('HGET', KEYS[2], id)
  local key = digest and ARGV[7] .. digest
  if key and ARGV[5] ~= '' and redis.call('EXISTS', key) == 1 then
    -- One that ends sooner still does.
    local ends = redis.call('HGET', key, 'ends')
    if not ends or tonumber(ends) > tonumber(ARGV[5]) then
      redis.call('HSET', key, 'ends', ARGV[5])
      redis.call('PEXPIREAT', key, ARGV[5])
    end
  else
    if key then
      redis.call('UNLINK', key)
    end
    redis.call('HDEL', KEYS[2], id)
    redis.call('ZREM', KEYS[3], id)
    redis.call('ZREM', KEYS[4], id)
  end
end
return 1
