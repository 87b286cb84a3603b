-- KEYS: head, log
-- ARGV: epoch, number of entries, the entries, channel, SPUBLISH or PUBLISH, the most entries and bytes that may wait
-- Puts a batch at the end and tells who listens: {0, its last offset, state of the waiting}; {1} if the epoch is over; {2, 0, state of
-- the waiting} if the log is full.
local head = redis.call('HMGET', KEYS[1], 'epoch', 'life', 'tail', 'base', 'settled', 'bytes', 'freed')
if head[1] ~= ARGV[1] or head[2] ~= life() then return {1, 0, {}} end
local entries, size = tonumber(ARGV[2]), #ARGV[3]
local tail = tonumber(head[3])
local count, bytes = head[4] + tail, tonumber(head[6])
if count + entries - head[5] > tonumber(ARGV[6]) or bytes + size - head[7] > tonumber(ARGV[7]) then
  return {2, 0, {whole(count), head[5], head[6], head[7]}}
end
local last, through = whole(tail + entries), whole(bytes + size)
redis.call('XADD', KEYS[2], ARGV[1] .. '-' .. last, 'b', ARGV[3], 't', through)
redis.call('HSET', KEYS[1], 'tail', last, 'bytes', through)
redis.call(ARGV[5], ARGV[4], ARGV[1] .. ':' .. last .. ':' .. ARGV[2] .. ':' .. ARGV[3])
return {0, tail + entries, {whole(count + entries), head[5], through, head[7]}}
