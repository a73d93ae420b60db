-- uses: cache
-- Keep a result; the oldest ones leave where there are too many entries or bytes. Repeating it changes nothing.
-- KEYS: results, ages, stats
-- ARGV: key, result, most entries, most bytes
-- Returns 1, or 0 where the result alone is too large.
drop_expired()
if #ARGV[2] > tonumber(ARGV[4]) then return 0 end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then drop(ARGV[1]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%.6f', NOW), ARGV[1])
count('bytes', #ARGV[2])
while redis.call('ZCARD', KEYS[2]) > tonumber(ARGV[3])
  or tonumber(redis.call('HGET', KEYS[3], 'bytes')) > tonumber(ARGV[4]) do
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  drop(oldest)
  count('evictions', 1)
end
return 1
