-- uses: cache
-- KEYS: results, ages, stats, once
-- ARGV: key
-- Returns the result, or false. A repeated call counts no second hit or miss.
drop_expired()
local result = redis.call('HGET', KEYS[1], ARGV[1])
if redis.call('SET', KEYS[4], '1', 'NX', 'EX', ONCE_SECONDS) then count(result and 'hits' or 'misses', 1) end
return result
