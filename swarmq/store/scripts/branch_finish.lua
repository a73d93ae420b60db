-- uses: swarm budget branch
-- End a branch with its outcome. Only the holder of the newest token may.
-- KEYS: swarm
-- ARGV: branch id, token, exit, outcome, events ...
-- Returns advance ('1': the caller is to have the stage finished) and the ids to publish; the same when repeated.
local swarm = load_swarm()
if swarm.err then return swarm end
local branch = load_branch(ARGV[1])
local caller = 'token ' .. ARGV[2]
if branch and branch.state == 'done' and branch.ended_by == caller then return {branch.advance, branch.publish} end
if not holds(branch, ARGV[2]) then return lost(ARGV[1]) end
for i = 5, #ARGV do emit(swarm, ARGV[i]) end
return {end_branch(swarm, branch, ARGV[3], ARGV[4], ARGV[2], caller)}
