-- uses: swarm budget branch
-- Take a branch: the fencing token grows by one and a lease starts.
-- KEYS: swarm
-- ARGV: branch id, call id, worker, lease in seconds
-- Returns status, advance, publish, the lost worker ('' unless an expired lease was taken over), and the record.
--   claimed    the caller is the holder
--   exhausted  the caller is the holder, but only to end the branch: its lease has run out max_deliveries times
--   held       another is alive, there is no slot yet, or the swarm is paused: this delivery has nothing to do
--   yielded    it waited for a worker, and so does a branch of a swarm with fewer running: to the end of the queue
--   cancelled  the branch was to be cancelled and nobody held it: it has been ended here
--   done       it had ended before
-- The record of a swarm or branch that is gone: missing.
local swarm = load_swarm()
if swarm.err then
  if redis.call('EXISTS', SWARM) == 0 then return {'missing', '0', '', '', {}} end
  return swarm
end
-- A message that waited for less has met no crowd. Who gave way some times waits twice as long each time before it does
-- so again: where a turn of the queue takes long, or nobody takes the others' messages, it has to get on.
local FAIR_AFTER_SECONDS, GIVES_WAY_GLADLY = 1, 5

-- Whether another swarm, with fewer branches running, waits for a worker: with a branch, or to be planned at all.
local function is_unfair(branch)
  local times = tonumber(redis.call('HGET', branch.key, 'yields') or 0)
  if NOW - tonumber(branch.queued_at) < FAIR_AFTER_SECONDS * 2 ^ math.max(0, times - GIVES_WAY_GLADLY + 1) then return false end
  local running = redis.call('SCARD', BASE .. 'running')
  if running == 0 then return false end
  for _, id in ipairs(redis.call('SMEMBERS', 'swarmq:active')) do
    local base = 'swarmq:{' .. id .. '}:'
    local others = redis.call('SCARD', base .. 'running')
    if others < running then
      local f = redis.call('HMGET', base .. 'swarm', 'state', 'paused_at', 'cancel_reason')
      local waits = f[1] == 'submitted' or redis.call('SCARD', base .. 'slots') > others
      if waits and not f[2] and not f[3] then return true end
    end
  end
  return false
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
if branch.state == 'waiting' or swarm.paused then return answer('held') end
if branch.state == 'queued' then
  if redis.call('HGET', branch.key, 'yielded_by') == ARGV[2] then return answer('yielded') end
  if is_unfair(branch) then
    redis.call('HINCRBY', branch.key, 'yields', 1)
    redis.call('HSET', branch.key, 'queued_at', stamp(NOW), 'yielded_by', ARGV[2])
    return answer('yielded')
  end
end

local took_over, status = branch.state == 'running', 'claimed'
local lost_worker = took_over and redis.call('HGET', branch.key, 'worker') or ''
if took_over and redis.call('HINCRBY', branch.key, 'deliveries', 1) >= swarm.max_deliveries then status = 'exhausted' end
redis.call('HINCRBY', branch.key, 'token', 1)
redis.call('HDEL', branch.key, 'yielded_by', 'yields')
redis.call('HSET', branch.key, 'state', 'running', 'claim', ARGV[2], 'claim_status', status,
  'lost_worker', lost_worker, 'worker', ARGV[3], 'lease_until', lease)
if branch.started_at == '0' then redis.call('HSET', branch.key, 'started_at', stamp(NOW)) end
if redis.call('HEXISTS', BASE .. 'results', branch.subtask) == 0 then
  redis.call('HSET', BASE .. 'subtasks', branch.subtask, 'running')
end
redis.call('SADD', BASE .. 'running', branch.id)
return answer(status)
