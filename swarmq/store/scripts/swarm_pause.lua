-- uses: swarm
-- Pause a swarm: no step is reserved and no branch claimed from now on. Repeating it changes nothing.
-- KEYS: swarm
-- ARGV: event
-- Returns 0 where the swarm has ended or is to stop, else 1.
local swarm = load_swarm()
if swarm.err then return swarm end
if swarm.stop then return 0 end
if redis.call('HSETNX', SWARM, 'paused_at', stamp(NOW)) == 1 then emit(swarm, ARGV[1]) end
return 1
