#!lua flags=allow-oom
-- JOB: begins a job of a webhook, notes its progress, or its end. A webhook has one job at a time.
--
-- KEYS   1 job  2 the webhook's running job
-- ARGV   1 id of the job  2 its state as JSON  3 seconds for which that is kept  4 milliseconds for which the job
--        holds its place without a word; 0 = it has ended
-- RETURN 1; the id of another job that holds the place, and nothing changed.
-- Written even to a full Redis, so that a job that it stops can say so: a few hundred bytes for each of few jobs.
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then
  return holder
end
redis.call('HSET', KEYS[1], 'body', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
if ARGV[4] == '0' then
  redis.call('UNLINK', KEYS[2])
else
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4])
end
return 1
