-- In front of every script.

-- The life of the server that runs this: another one after each restart, failover and promotion, and after nothing else that could
-- have cost the log its tail.
local function life()
  return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end

-- Lua would write large numbers as 1e+15.
local function whole(number)
  return string.format('%.0f', number)
end

-- A log's head, as scripts answer with it.
local function state(head)
  return redis.call('HMGET', head, 'epoch', 'tail', 'base', 'oldest', 'settled', 'bytes', 'freed', 'past', 'logs')
end
