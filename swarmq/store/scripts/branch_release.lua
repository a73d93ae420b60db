-- uses: swarm branch
-- Give a branch back to the queue; no delivery is counted. For anybody but the holder it does nothing.
-- KEYS: swarm
-- ARGV: branch id, token
local swarm = load_swarm()
local branch = load_branch(ARGV[1])
if swarm.err or not holds(branch, ARGV[2]) then return 0 end
redis.call('HSET', branch.key, 'state', 'queued', 'lease_until', '0', 'queued_at', stamp(NOW))
redis.call('HSET', BASE .. 'subtasks', branch.subtask, 'pending')
return 1
