-- uses: swarm budget branch
-- Give a branch back to the queue; no delivery is counted. For anybody but the holder it does nothing.
-- KEYS: swarm
-- ARGV: branch id, token
-- Returns 1 where its message is to be published: not while the swarm is paused, since resuming publishes it, but where
-- the branch is to be cancelled, since who claims it ends it. A repeated call finds it done and says what is right by
-- then; a message that is sent twice does no harm.
local swarm = load_swarm()
if swarm.err then return 0 end
local branch = load_branch(ARGV[1])
if not branch or branch.err or branch.token ~= ARGV[2] then return 0 end
if branch.state == 'running' then
  unreserve(branch)
  redis.call('SREM', BASE .. 'running', branch.id)
  redis.call('HSET', branch.key, 'state', 'queued', 'lease_until', '0', 'queued_at', stamp(NOW))
  redis.call('HSET', BASE .. 'subtasks', branch.subtask, 'pending')
elseif branch.state ~= 'queued' then
  return 0
end
return swarm.paused and not (branch.cancel_reason or swarm.stop) and 0 or 1
