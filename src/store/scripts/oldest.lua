#!lua flags=no-writes
-- OLDEST: when the event of a queue's first entry arrived.
--
-- KEYS   1 queue
-- RETURN the id of the event's entry in its source; of the queue entry if that is missing; nil for an empty queue.
local found = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
if #found == 0 then
  return nil
end
local fields = found[1][2]
for at = 1, #fields, 2 do
  if fields[at] == 'e' then
    return fields[at + 1]
  end
  if fields[at] == 'd' then
    local ok, delivery = pcall(cjson.decode, fields[at + 1])
    if ok and type(delivery) == 'table' and type(delivery.e) == 'string' then
      return delivery.e
    end
  end
end
return found[1][1]
