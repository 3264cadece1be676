#!lua flags=allow-oom
-- TRIM: removes the entries of a source that none of its groups needs any more.
--
-- KEYS   1 the source stream
-- ARGV   1 our group  2 the mark: all entries up to it are settled
-- RETURN how many entries were removed. Nothing is when our group is missing.
local groups = redis.call('XINFO', 'GROUPS', KEYS[1])
local function parse(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local function less(a, b)
  local a_ms, a_seq = parse(a)
  local b_ms, b_seq = parse(b)
  return a_ms < b_ms or (a_ms == b_ms and a_seq < b_seq)
end
-- The first entry to keep is the lowest that is pending in any group, or the successor of its last delivered one.
local ours, keep = false, nil
local function need(id)
  if keep == nil or less(id, keep) then
    keep = id
  end
end
local function after(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return ms .. '-' .. string.format('%.0f', tonumber(seq) + 1)
end
for _, group in ipairs(groups) do
  local info = {}
  for at = 1, #group, 2 do
    info[group[at]] = group[at + 1]
  end
  if info['name'] == ARGV[1] then
    ours = true
  end
  if tonumber(info['pending']) > 0 then
    need(redis.call('XPENDING', KEYS[1], info['name'])[2])
  end
  need(after(info['last-delivered-id']))
end
if not ours then
  return 0
end
need(after(ARGV[2]))
return redis.call('XTRIM', KEYS[1], 'MINID', keep)
