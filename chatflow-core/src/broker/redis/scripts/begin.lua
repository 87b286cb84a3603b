-- KEYS: head, log, histories
-- ARGV: the epoch that ends ('' if there is no head), the epoch that begins, the number of logs, how many past epochs to remember
-- Begins an epoch, unless somebody else did meanwhile: {1 if so}.
local head = redis.call('HMGET', KEYS[1], 'epoch', 'tail', 'base', 'past', 'oldest')
if (head[1] or '') ~= ARGV[1] then return {1} end
if head[1] then
  local past = {}
  for place in string.gmatch(head[4], '[^,]+') do past[#past + 1] = place end
  past[#past + 1] = head[1] .. ':' .. head[3] .. ':' .. head[2]
  while #past > tonumber(ARGV[4]) do table.remove(past, 1) end
  -- What stands in an epoch that is not remembered can't be found any more.
  local first = tonumber(string.match(past[1], ':(%d+):'))
  redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'life', life(), 'tail', 0, 'base', whole(head[3] + head[2]),
    'past', table.concat(past, ','), 'oldest', whole(math.max(head[5], first)))
else
  -- Without its head, what is left of a log has no place.
  redis.call('DEL', KEYS[2], KEYS[3])
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'logs', ARGV[3], 'epoch', ARGV[2], 'life', life(), 'tail', 0, 'base', 0, 'oldest', 0, 'settled', 0,
    'bytes', 0, 'freed', 0, 'past', '', 'clock', 0, 'seen', whole(time[1] * 1000))
end
return {0}
