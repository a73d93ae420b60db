-- uses: swarm
-- End a run of verify. That a tree passes is true whoever found it; a failure counts only of the newest run, as who
-- begins a run ends the processes of the one before.
-- KEYS: swarm
-- ARGV: digest of tree and commands, id of this run, report of a run that passed or ''
-- Returns 1 where this run is the newest, else 0.
local swarm = load_swarm()
if swarm.err then return swarm end
local key, digest = BASE .. 'verified', ARGV[1]
if ARGV[3] ~= '' then
  redis.call('HSETNX', key, 'passed:' .. digest, ARGV[3])
  keep(swarm, key)
end
return redis.call('HGET', key, 'run:' .. digest) == ARGV[2] and 1 or 0
