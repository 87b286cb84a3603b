-- KEYS: log, a key that does not exist; ARGV: channel, SPUBLISH or PUBLISH
-- Does nothing that could be seen, by every command that the other scripts use: fails where the user may not.
redis.call('XADD', KEYS[2], 'NOMKSTREAM', '*', 'b', '')
redis.call('XTRIM', KEYS[2], 'MINID', '0-1')
redis.call('XRANGE', KEYS[1], '+', '-', 'COUNT', 1)
redis.call('HDEL', KEYS[2], 'b')
redis.call('HGETALL', KEYS[2])
redis.call('DEL', KEYS[2])
redis.call(ARGV[2], ARGV[1], '')
return 0
