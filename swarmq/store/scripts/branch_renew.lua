-- uses: swarm budget branch
-- Prolong a lease and note what the holder observes. A lease that ran out is renewed as long as nobody took the branch.
-- KEYS: swarm
-- ARGV: branch id, token, lease in seconds, observation
-- Returns whether the caller is the holder (1 or 0), why it has to stop, '' where it need not, and 1 where the swarm is
-- paused.
local swarm = load_swarm()
if swarm.err then return redis.call('EXISTS', SWARM) == 0 and {0, '', 0} or swarm end
local branch = load_branch(ARGV[1])
if not holds(branch, ARGV[2]) then return {0, '', 0} end
redis.call('HSET', branch.key, 'lease_until', stamp(NOW + tonumber(ARGV[3])), 'observation', ARGV[4])
return {1, branch.cancel_reason or swarm.stop or '', swarm.paused and 1 or 0}
