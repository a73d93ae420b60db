-- uses: cache
-- Drop all results; the counters of hits and the like stay.
-- KEYS: results, ages, stats, once
-- Returns how many results there were; the same when repeated.
local before = redis.call('GET', KEYS[4])
if before then return tonumber(before) end
local entries = redis.call('ZCARD', KEYS[2])
redis.call('UNLINK', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[3], 'bytes', 0)
redis.call('SET', KEYS[4], entries, 'EX', ONCE_SECONDS)
return entries
