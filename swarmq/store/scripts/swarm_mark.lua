-- uses: swarm
-- Set a field of an unfinished swarm once: cancel_reason, error or limit. The first value stays.
-- KEYS: swarm
-- ARGV: field, value
-- Returns 0 where the swarm has ended, else 1.
local swarm = load_swarm()
if swarm.err then return swarm end
if swarm.final then return 0 end
redis.call('HSETNX', SWARM, ARGV[1], ARGV[2])
return 1
