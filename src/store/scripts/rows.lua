#!lua flags=no-writes
-- ROWS: one webhook's deliveries on one shelf (its queue, its dead letters or its history), without what is large in
-- them: the payloads stay in Redis.
--
-- KEYS   1 the shelf  2 retry, the schedules beside a queue
-- ARGV   1 'rev' (newest first) or 'fwd'  2 where to begin  3 where to end  (as XREVRANGE and XRANGE take them)
--        4 most entries looked at  5 most rows returned
--        6 event type  7 event id  ('' = any)  8 since (Unix ms of the event's entry; '' = any)  9 until, itself not included
--        10 'later' = only what is scheduled after now, 'now' = only the rest, '' = both  11 now (Unix ms)
--        12 most entries read at a step: so many of the largest payload are a few MiB
-- RETURN entries looked at, their bytes (about), the id of the last ('' = none), 1 if the end was reached, else 0; then
--        a list of rows: shelf id, entry id of the event, stream, event type, event id, due (Unix ms; '' = unscheduled).
--        An entry without the event's own entry id cannot be sorted: it is returned whatever was asked for.
-- One call reads a few MiB at most, or one entry, however large the payloads: other commands wait meanwhile.
local STEP_BYTES, MOST_BYTES = 262144, 4194304
local command = ARGV[1] == 'rev' and 'XREVRANGE' or 'XRANGE'
local from, to = ARGV[2], ARGV[3]
local most, most_rows = tonumber(ARGV[4]), tonumber(ARGV[5])
local since, till, now = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[11])
local looked, bytes, last, ended, rows = 0, 0, '', 0, {}

local function due_of(id)
  local due = KEYS[2] and redis.call('ZSCORE', KEYS[2], id)
  return due and tonumber(due) or nil
end

-- An entry has all of that and more in one JSON text, unless it is of the first form, which has fields for it. The text's
-- beginning is read as Pombo writes it, which costs a fraction of reading all of it; where it is otherwise, or has escapes,
-- the whole is read.
local HEAD = '^{"v":%d+,"i":"([^"\\]*)","t":"([^"\\]*)","n":"[^"\\]*","o":"([^"\\]*)","e":"([^"\\]*)"'
local function unpack_event(entry, text)
  local id, kind, stream, arrived = string.match(text, HEAD)
  if id then
    entry.i, entry.t, entry.o, entry.e = id, kind, stream, arrived
    return
  end
  local ok, event = pcall(cjson.decode, text)
  if ok and type(event) == 'table' then
    for name in pairs(entry) do
      if type(event[name]) == 'string' then
        entry[name] = event[name]
      end
    end
  end
end

local function wanted(entry, due)
  local ms = tonumber(string.match(entry.e, '^(%d+)'))
  if ms == nil then
    return true
  end
  local later = due ~= nil and due > now
  return (ARGV[6] == '' or entry.t == ARGV[6])
    and (ARGV[7] == '' or entry.i == ARGV[7])
    and (since == nil or ms >= since)
    and (till == nil or ms < till)
    and (ARGV[10] == '' or (ARGV[10] == 'later') == later)
end

-- Where every entry is wanted no more are read than rows; else twice as many at each step as were looked at before.
local wants_all = ARGV[6] == '' and ARGV[7] == '' and ARGV[10] == '' and not since and not till
local most_step = tonumber(ARGV[12])
local step = math.min(8, most_step)
while looked < most and #rows < most_rows and bytes < MOST_BYTES do
  local count = math.min(step, most - looked)
  if wants_all then
    count = math.min(count, most_rows - #rows)
  end
  local found = redis.call(command, KEYS[1], from, to, 'COUNT', count)
  local before = bytes
  for _, item in ipairs(found) do
    local entry = { e = '', o = '', t = '', i = '' }
    local fields = item[2]
    for at = 1, #fields, 2 do
      bytes = bytes + #fields[at + 1]
      if entry[fields[at]] then
        entry[fields[at]] = fields[at + 1]
      elseif fields[at] == 'd' then
        unpack_event(entry, fields[at + 1])
      end
    end
    looked, last = looked + 1, item[1]
    local due = due_of(last)
    if wanted(entry, due) then
      rows[#rows + 1] = { last, entry.e, entry.o, entry.t, entry.i, due and string.format('%.0f', due) or '' }
      if #rows == most_rows then
        break
      end
    end
  end
  if #found < count and (#found == 0 or last == found[#found][1]) then
    ended = 1
    break
  end
  from = '(' .. last
  local fitting = math.floor(STEP_BYTES * #found / math.max(bytes - before, 1))
  step = math.max(1, math.min(most_step, fitting, 2 * looked))
end
return { looked, bytes, last, ended, rows }
