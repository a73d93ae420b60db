-- uses: swarm budget branch
-- End the lease of a holder that is known to be dead: the branch's next claim is one more delivery.
-- KEYS: swarm
-- ARGV: branch id, token of the dead holder
-- Returns when the lease ended, as text; '' where the branch has another holder, or none.
local swarm = load_swarm()
if swarm.err then return swarm end
local branch = load_branch(ARGV[1])
if not holds(branch, ARGV[2]) then return '' end
if branch.alive then
  branch.lease_until = stamp(NOW)
  redis.call('HSET', branch.key, 'lease_until', branch.lease_until)
end
return branch.lease_until
