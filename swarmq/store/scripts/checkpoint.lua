-- uses: swarm budget branch
-- Note the last checkpoint commit of a branch. Only the holder of the newest token may.
-- KEYS: swarm
-- ARGV: branch id, token, commit
local swarm = load_swarm()
if swarm.err then return swarm end
local branch = load_branch(ARGV[1])
if not holds(branch, ARGV[2]) then return lost(ARGV[1]) end
redis.call('HSET', branch.key, 'checkpoint', ARGV[3])
return 1
