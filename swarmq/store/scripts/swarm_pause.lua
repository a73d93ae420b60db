-- uses: swarm
-- Pause a swarm: no step is reserved and no branch claimed from now on. Repeating it changes nothing, also where the swarm
-- was resumed meanwhile.
-- KEYS: swarm
-- ARGV: event, call id, reason
-- Returns 0 where the swarm has ended or is to stop, else 1.
local swarm = load_swarm()
if swarm.err then return swarm end
if swarm.stop then return 0 end
if swarm.paused or redis.call('HGET', SWARM, 'paused_by') == ARGV[2] then return 1 end
redis.call('HSET', SWARM, 'paused_at', stamp(NOW), 'paused_by', ARGV[2], 'pause_reason', ARGV[3])
emit(swarm, ARGV[1])
return 1
