-- KEYS: head, log
-- ARGV: the id after which to read, how many batches (0: only the state)
-- {1 if the log waits for somebody to begin an epoch in this life of the server, state, batches}
if redis.call('HGET', KEYS[1], 'life') ~= life() then return {1, {}, {}} end
local batches = {}
if ARGV[2] ~= '0' then batches = redis.call('XRANGE', KEYS[2], '(' .. ARGV[1], '+', 'COUNT', ARGV[2]) end
return {0, state(KEYS[1]), batches}
