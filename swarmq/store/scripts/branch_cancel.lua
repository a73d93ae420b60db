-- uses: swarm budget branch
-- Cancel a branch: ended at once where nobody runs it, or its holder's lease is over, else marked, and its holder ends it.
-- KEYS: swarm
-- ARGV: branch id, call id, reason
-- Returns the state that it was in, advance and the ids to publish; the same when repeated.
local swarm = load_swarm()
if swarm.err then return swarm end
local branch = load_branch(ARGV[1])
if not branch then return refuse('NOTFOUND', 'swarm ' .. ID .. ' has no branch ' .. ARGV[1]) end
if branch.err then return branch end
if branch.state == 'done' then
  if branch.ended_by == ARGV[2] then return {branch.was, branch.advance, branch.publish} end
  return {'done', '0', ''}
end
if branch.alive then
  redis.call('HSETNX', branch.key, 'cancel_reason', ARGV[3])
  return {'running', '0', ''}
end
return {branch.state, end_cancelled(swarm, branch, branch.cancel_reason or ARGV[3], ARGV[2])}
