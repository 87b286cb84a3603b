-- KEYS: head, log, histories
-- ARGV: the history ('' for nodes without one), the epoch and offset through which it holds everything ('' if it is only to be heard
-- of), how many settled entries to keep, after how many milliseconds of silence a history is forgotten
-- Trims what every history has: {1 if the log waits for an epoch, state, how many entries of all times this history holds}.
local head = redis.call('HMGET', KEYS[1], 'epoch', 'life', 'tail', 'base', 'oldest', 'bytes', 'past', 'clock', 'seen')
if not head[1] or head[2] ~= life() then return {1, {}, '0'} end
local oldest, bytes = tonumber(head[5]), tonumber(head[6])
local count = head[4] + head[3]

-- The epochs that are remembered, the present one last: name, entries of all times before it, entries in it.
local places = {}
for epoch, base, tail in string.gmatch(head[7], '(%d+):(%d+):(%d+)') do
  places[#places + 1] = {epoch, tonumber(base), tonumber(tail)}
end
places[#places + 1] = {head[1], tonumber(head[4]), tonumber(head[3])}

-- Where the entry stands that is the n-th of all times.
local function locate(n)
  local i = #places
  while i > 1 and places[i][2] > n do i = i - 1 end
  return places[i][1], n - places[i][2]
end

-- The bytes of all times through the n-th entry. Within a batch: through the batch before.
local function weigh(n)
  if n >= count then return bytes end
  local epoch, offset = locate(n)
  local id = epoch .. '-' .. whole(offset)
  local batch = redis.call('XRANGE', KEYS[2], id, '+', 'COUNT', 1)[1]
  if not batch then return bytes end
  return batch[1] == id and tonumber(batch[2][4]) or batch[2][4] - #batch[2][2]
end

-- Time passes only while somebody is here to be heard: neither a night without any node nor a clock that was set forgets a history.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local clock = head[8] + math.max(0, math.min(now - head[9], 60000))

local name, offset = ARGV[1], tonumber(ARGV[3])
local own = redis.call('HGET', KEYS[3], name)
local holds, freed
if own then
  holds, freed = string.match(own, '^(%d+):(%d+):')
  holds, freed = tonumber(holds), tonumber(freed)
else
  holds, freed = oldest, weigh(oldest)
end
if offset then
  for _, place in ipairs(places) do
    local n = place[2] + math.min(offset, place[3])
    if place[1] == ARGV[2] and n > holds then holds, freed = n, weigh(n) end
  end
end
redis.call('HSET', KEYS[3], name, whole(holds) .. ':' .. whole(freed) .. ':' .. whole(clock))

-- The history that is furthest behind; where there is none, the node that is furthest ahead.
local settled, free
local all = redis.call('HGETALL', KEYS[3])
for i = 1, #all, 2 do
  local n, weight, heard = string.match(all[i + 1], '^(%d+):(%d+):(%d+)$')
  if all[i] ~= '' then
    if all[i] ~= name and clock - heard > tonumber(ARGV[5]) then
      redis.call('HDEL', KEYS[3], all[i])
    elseif not settled or tonumber(n) < settled then
      settled, free = tonumber(n), tonumber(weight)
    end
  end
end
if not settled then settled, free = holds, freed end

local through = math.min(settled, count - tonumber(ARGV[4]))
if through > oldest then
  local epoch, last = locate(through)
  redis.call('XTRIM', KEYS[2], 'MINID', epoch .. '-' .. whole(last + 1))
  oldest = through
end
redis.call('HSET', KEYS[1], 'settled', whole(settled), 'freed', whole(free), 'oldest', whole(oldest), 'clock', whole(clock), 'seen', whole(now))
return {0, state(KEYS[1]), whole(holds)}
