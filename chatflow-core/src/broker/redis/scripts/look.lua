-- KEYS: head, log
-- What is there, whoever left it, and whether it was written in this life of the server: {1 if not, state, the stream's last id}.
local mine = redis.call('HGET', KEYS[1], 'life') == life()
local last = ''
if redis.call('EXISTS', KEYS[2]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[2])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = info[i + 1] end
  end
end
return {mine and 0 or 1, state(KEYS[1]), last}
