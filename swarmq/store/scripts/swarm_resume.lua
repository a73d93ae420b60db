-- uses: swarm budget branch
-- Let a paused swarm go on. Time-outs of branches count recorded work only, so a pause costs them nothing.
-- KEYS: swarm
-- ARGV: call id
-- Repeating it does not end a pause that began meanwhile.
-- Returns '1' where it was paused, '0' where not, '' where it has ended or is to stop; then the queued branches, to be
-- published.
local swarm = load_swarm()
if swarm.err then return swarm end
if swarm.stop then return {''} end
local f = redis.call('HMGET', SWARM, 'paused_at', 'resumed_by')
local answer = {(f[1] or f[2] == ARGV[1]) and '1' or '0'}
if f[1] and f[2] ~= ARGV[1] then
  redis.call('HDEL', SWARM, 'paused_at', 'pause_reason')
  redis.call('HSET', SWARM, 'resumed_by', ARGV[1])
  swarm.paused = nil
  emit(swarm, cjson.encode({version = 1, type = 'swarm.resumed', at = NOW, swarm = ID,
    data = {seconds = NOW - tonumber(f[1])}}))
  fill_slots(swarm)
end
for _, id in ipairs(redis.call('SMEMBERS', BASE .. 'slots')) do
  local key = BASE .. 'branch:' .. id
  if redis.call('HGET', key, 'state') == 'queued' then
    redis.call('HSET', key, 'queued_at', stamp(NOW))
    answer[#answer + 1] = id
  end
end
return answer
