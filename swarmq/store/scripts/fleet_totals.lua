-- What all ended swarms have used, and what each unfinished one has used so far: in one moment, so that the sum never
-- shrinks when a swarm ends.
-- KEYS: swarmq:totals, swarmq:active
-- Returns the totals as field, value ..., and for each unfinished swarm its id and its counters as field, value ...
local FINAL = {succeeded = true, partial = true, failed = true, cancelled = true}
local found = {}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local base = 'swarmq:{' .. id .. '}:'
  local state = redis.call('HGET', base .. 'swarm', 'state')
  if state and not FINAL[state] then found[#found + 1] = {id, redis.call('HGETALL', base .. 'counters')} end
end
return {redis.call('HGETALL', KEYS[1]), found}
