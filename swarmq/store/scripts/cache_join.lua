-- uses: cache
-- Equal work that is done, or under way, or leave to do it: one script, so that of any number who ask one leads.
-- KEYS: results, ages, stats, once, flight
-- ARGV: key, who (swarm/branch), lease in ms, '1' to count a wait
-- Returns hit and the result, wait and who leads, or lead: the caller does, as it does already where it asks again.
drop_expired()
local first = redis.call('SET', KEYS[4], '1', 'NX', 'EX', ONCE_SECONDS)
local result = redis.call('HGET', KEYS[1], ARGV[1])
if result then
  if first then count('hits', 1) end
  return {'hit', result}
end
local leader = redis.call('GET', KEYS[5])
if leader and leader ~= ARGV[2] then
  if first and ARGV[4] == '1' then count('waits', 1) end
  return {'wait', leader}
end
redis.call('SET', KEYS[5], ARGV[2], 'PX', ARGV[3])
if first and not leader then count('misses', 1) end
return {'lead', ''}
