#!lua flags=no-writes
-- RECORDS: whole deliveries of one webhook by their places.
--
-- KEYS   1 queue  2 dead  3 history  4 retry  5 tries
-- ARGV   1 longest payload that is returned, in bytes  2 bytes after which no further delivery is read
--        then for each delivery: which of the first three keys, and the id there
-- RETURN for each in order, as far as it came, which is one at least: nil (it is no more), or a list of its fields and
--        values without a payload that is too long, the bytes of that payload (0 = none was left out), due (Unix ms;
--        '' = unscheduled), its tries as JSON ('' = none).
local longest, enough = tonumber(ARGV[1]), tonumber(ARGV[2])
local records, bytes = {}, 0
for at = 3, #ARGV, 2 do
  local key, id = tonumber(ARGV[at]), ARGV[at + 1]
  local found = redis.call('XRANGE', KEYS[key], id, id)
  local record = false
  if #found > 0 then
    local fields, left_out, due, tries = {}, 0, false, false
    for n = 1, #found[1][2], 2 do
      local name, value = found[1][2][n], found[1][2][n + 1]
      if name == 'p' and #value > longest then
        left_out = #value
      else
        fields[#fields + 1] = name
        fields[#fields + 1] = value
      end
      bytes = bytes + #value
    end
    if key == 1 then
      due = redis.call('ZSCORE', KEYS[4], id)
      tries = redis.call('HGET', KEYS[5], id)
    end
    record = { fields, left_out, due and string.format('%.0f', tonumber(due)) or '', tries or '' }
  end
  records[#records + 1] = record
  if bytes > enough then
    break
  end
end
return records
