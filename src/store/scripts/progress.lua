#!lua flags=allow-oom
-- PROGRESS: how far our group is, and how many entries were trimmed before it was given them.
--
-- KEYS   1 the source stream
-- ARGV   1 our group
-- RETURN 'NOGROUP', or a list: entries that the group was given (-1 = the server cannot tell), entries still to be
--        given (at least), the id of the first of them ('' = none), entries that were trimmed before they were given,
--        1 if the first number is known to be right now.
--
-- Redis 7.0 keeps counting what was trimmed unread as still to be read, for good. So the group's counter is put right
-- where its true value is known: with nothing left to read it is that of all entries ever added; with nothing left but
-- what is to be read it is that of all entries that are gone. Each loss is thereby told once, to whoever looks first.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 'NOGROUP'
end
local function named(list)
  local found = {}
  for at = 1, #list, 2 do
    found[list[at]] = list[at + 1]
  end
  return found
end
local ours
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local info = named(group)
  if info['name'] == ARGV[1] then
    ours = info
  end
end
if ours == nil then
  return 'NOGROUP'
end
local stream = named(redis.call('XINFO', 'STREAM', KEYS[1]))
local last, added = ours['last-delivered-id'], tonumber(stream['entries-added'])
local unread = redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', 1)
local read = tonumber(ours['entries-read'] or -1)
local next_id, lost, real = '', 0, nil
if #unread == 0 then
  real = added
else
  next_id = unread[1][1]
  if redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][1] == next_id then
    real = added - tonumber(stream['length'])
  end
end
if read >= 0 and real ~= nil and real > read then
  lost = real - read
  read = real
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], last, 'ENTRIESREAD', string.format('%.0f', read))
end
local lag = 0
if #unread > 0 then
  lag = read >= 0 and math.max(added - read, 1) or 1
end
return { read, lag, next_id, lost, real ~= nil and 1 or 0 }
