-- uses: swarm budget branch
-- End a branch with its outcome. Only the holder of the newest token may.
-- KEYS: swarm
-- ARGV: branch id, token, exit, outcome, wins ('1': the first candidate of a race that says so has won it), events ...
-- Returns advance ('1': the caller is to have the stage finished), the ids to publish, and '1' to the winner of a race; the
-- same when repeated.
local swarm = load_swarm()
if swarm.err then return swarm end
local branch = load_branch(ARGV[1])
local caller = 'token ' .. ARGV[2]
local function answer(advance, publish)
  return {advance, publish, ARGV[5] == '1' and has_won(branch.subtask, branch.id) and '1' or '0'}
end

if branch and branch.state == 'done' and branch.ended_by == caller then return answer(branch.advance, branch.publish) end
if not holds(branch, ARGV[2]) then return lost(ARGV[1]) end
for i = 6, #ARGV do emit(swarm, ARGV[i]) end
if ARGV[5] == '1' then win_race(swarm, branch.subtask, branch.id, 'verify') end
return answer(end_branch(swarm, branch, ARGV[3], ARGV[4], ARGV[2], caller))
