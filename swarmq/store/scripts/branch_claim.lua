-- uses: swarm branch
-- Take a branch: the fencing token grows by one and a lease starts.
-- KEYS: swarm
-- ARGV: branch id, call id, worker, lease in seconds
-- Returns status, advance, publish, the lost worker ('' unless an expired lease was taken over), and the record.
--   claimed    the caller is the holder
--   exhausted  the caller is the holder, but only to end the branch: its lease has run out max_deliveries times
--   held       another is alive, or there is no slot yet: this delivery has nothing to do
--   cancelled  the branch was to be cancelled and nobody held it: it has been ended here
--   done       it had ended before
-- The record of a swarm or branch that is gone: missing.
local swarm = load_swarm()
if swarm.err then
  if redis.call('EXISTS', SWARM) == 0 then return {'missing', '0', '', '', {}} end
  return swarm
end
local branch = load_branch(ARGV[1])
if not branch then return {'missing', '0', '', '', {}} end
if branch.err then return branch end
local lease = stamp(NOW + tonumber(ARGV[4]))
local function answer(status, advance, publish)
  local lost_worker = redis.call('HGET', branch.key, 'lost_worker') or ''
  local won = status == 'claimed' or status == 'exhausted'
  return {status, advance or '0', publish or '', won and lost_worker or '', redis.call('HGETALL', branch.key)}
end

if branch.state == 'done' then
  if branch.ended_by == ARGV[2] then return answer('cancelled', branch.advance, branch.publish) end
  return answer('done')
end
if branch.state == 'running' and branch.claim == ARGV[2] then  -- the reply to this very call was lost
  redis.call('HSET', branch.key, 'lease_until', lease)
  return answer(redis.call('HGET', branch.key, 'claim_status'))
end
if branch.alive then return answer('held') end
local reason = branch.cancel_reason or swarm.stop
if reason then return answer('cancelled', end_cancelled(swarm, branch, reason, ARGV[2])) end
if branch.state == 'waiting' then return answer('held') end

local took_over, status = branch.state == 'running', 'claimed'
local lost_worker = took_over and redis.call('HGET', branch.key, 'worker') or ''
if took_over and redis.call('HINCRBY', branch.key, 'deliveries', 1) >= swarm.max_deliveries then status = 'exhausted' end
redis.call('HINCRBY', branch.key, 'token', 1)
redis.call('HSET', branch.key, 'state', 'running', 'claim', ARGV[2], 'claim_status', status,
  'lost_worker', lost_worker, 'worker', ARGV[3], 'lease_until', lease)
if branch.started_at == '0' then redis.call('HSET', branch.key, 'started_at', stamp(NOW)) end
redis.call('HSET', BASE .. 'subtasks', branch.subtask, 'running')
return answer(status)
