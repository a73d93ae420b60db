-- uses: cache
-- KEYS: results, ages, stats
-- Returns the number of entries, then the counters as HGETALL gives them.
drop_expired()
return {redis.call('ZCARD', KEYS[2]), redis.call('HGETALL', KEYS[3])}
