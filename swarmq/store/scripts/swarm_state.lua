-- uses: swarm
-- Move a swarm to a state that is not final (swarm_finish writes those).
-- KEYS: swarm
-- ARGV: state, [states that it may come from; none: any that is not final]
-- Returns 1 where the state is now the one asked for, which a repeated call finds too.
local swarm = load_swarm()
if swarm.err then return swarm end
if swarm.state == ARGV[1] then return 1 end
if swarm.final then return 0 end
local allowed = #ARGV == 1
for i = 2, #ARGV do allowed = allowed or ARGV[i] == swarm.state end
if not allowed then return 0 end
redis.call('HSET', SWARM, 'state', ARGV[1])
redis.call('HSETNX', SWARM, 'started_at', stamp(NOW))
return 1
