#!lua flags=allow-oom
-- BEAT: this daemon lives.
--
-- KEYS   1 instances
-- ARGV   1 nonce  2 the beat to store  3 '1' to join (the nonce need not be listed yet)
-- RETURN 'FENCED' (somebody deposed this daemon) and nothing changed, or all nonces and beats, alternating.
if ARGV[3] ~= '1' and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return 'FENCED'
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGETALL', KEYS[1])
